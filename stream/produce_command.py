"""`freshet produce`: events from standard input into Kafka, one JSON object a line.

    {"user_id": "ada", "item_id": "50", "action": "click"}

A line has the fields of rec.v1.Event, and the user_id and tenant that it belongs to. A line that
cannot be sent is told with its number and reason, and stops nothing. Events of one user keep the
order of their lines.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import IO, Annotated

import typer
from google.protobuf import json_format
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infra.endpoints import Endpoints
from infra.settings import SharedSettings
from protos.errors import FreshetError, InvalidInput
from protos.rec.v1.events_pb2 import Event, Receipt
from stream.kafka_writer import WriterOptions
from stream.producer import Producer

N_SHOWN = 20
N_WAITING = 10_000
"""Deliveries that are waited for; the writer's buffer is bounded by itself."""
REDRAW_S = 0.1


@dataclass(frozen=True, slots=True)
class Line:
    """One event, or why there is none."""

    number: int
    user_id: str = ""
    tenant: str = ""
    event: Event | None = None
    problem: str = ""


def read_lines(lines: Iterable[bytes], tenant: str) -> Iterator[Line]:
    """Read events; blank lines are passed over. Never raises."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _read(number, line, tenant)


def _read(number: int, line: bytes, tenant: str) -> Line:
    try:
        found = json.loads(line)
        if not isinstance(found, dict):
            return Line(number, problem="no JSON object; send one event a line")
        user_id, tenant = found.pop("user_id", ""), found.pop("tenant", tenant)
        if not isinstance(user_id, str) or not isinstance(tenant, str):
            return Line(number, problem="user_id and tenant must be texts")
        event = json_format.ParseDict(found, Event(), max_recursion_depth=8)
    except (ValueError, RecursionError, json_format.ParseError) as error:
        return Line(number, problem=f"no event in JSON: {error}")
    return Line(number, user_id, tenant, event)


@dataclass(slots=True)
class Outcome:
    n_sent: int = 0
    n_refused: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    """(line, why) of the first ones."""

    def refuse(self, number: int, problem: str) -> None:
        self.n_refused += 1
        if len(self.problems) < N_SHOWN:
            self.problems.append((number, problem))


def send(lines: Iterable[Line], producer: Producer, timeout_s: float) -> Iterator[Outcome]:
    """Send events, and yield the outcome so far after each line; the last one is all of it."""
    outcome = Outcome()
    waiting: dict[Future[Receipt], int] = {}
    for line in lines:
        if line.event is None:
            outcome.refuse(line.number, line.problem)
        else:
            try:
                events = [line.event]
                sent = producer.publish_batch_nowait(line.user_id, events, tenant=line.tenant)
                waiting[sent] = line.number
            except InvalidInput as error:
                outcome.refuse(line.number, str(error))
        if len(waiting) >= N_WAITING:
            _settle(waiting, outcome, timeout_s)
        yield outcome
    producer.flush(timeout_s)
    _settle(waiting, outcome, timeout_s)
    yield outcome


def _settle(waiting: dict[Future[Receipt], int], outcome: Outcome, timeout_s: float) -> None:
    gives_up_at = time.monotonic() + timeout_s
    for sent, number in waiting.items():
        try:
            sent.result(max(0.0, gives_up_at - time.monotonic()))
            outcome.n_sent += 1
        except TimeoutError:
            outcome.refuse(number, f"Kafka did not confirm it within {timeout_s:g} s")
        except FreshetError as error:
            outcome.refuse(number, str(error))
    waiting.clear()


def produce(
    tenant: Annotated[str, typer.Option(help="Of lines that name none.")] = "default",
    timeout_s: Annotated[float, typer.Option(min=1, help="Seconds to wait for Kafka.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Publish events from standard input, one JSON object a line; ends when the input does.

    Exit code 1 when a line was refused. Name your events (event_id), and sending them all again is
    harmless.
    """
    # Errors reach the user as ours; the client's own words on the way there would only repeat them.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    address, prefix = Endpoints.load().kafka_bootstrap, SharedSettings().topic_prefix
    options = WriterOptions(timeout_s=timeout_s, linger_ms=5, client_id="freshet-produce")
    start = time.monotonic()
    with Producer(address, topic_prefix=prefix, options=options) as producer:
        outcome = _watched(send(read_lines(_stdin(), tenant), producer, timeout_s))
    _report(outcome, time.monotonic() - start, as_json)
    if outcome.n_refused:
        raise typer.Exit(1)


def _stdin() -> IO[bytes]:
    if sys.stdin.isatty():
        Console(stderr=True).print('one JSON object a line, e.g. {"user_id": "ada", ...}; Ctrl-D')
    return sys.stdin.buffer


def _watched(outcomes: Iterator[Outcome]) -> Outcome:
    outcome, drawn_at = Outcome(), 0.0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reading")
        for number, outcome in enumerate(outcomes, 1):
            if (now := time.monotonic()) > drawn_at + REDRAW_S:
                drawn_at = now
                text = f"{number:,} lines, {outcome.n_refused:,} refused"
                progress.update(task, description=text)
    return outcome


def _report(outcome: Outcome, seconds: float, as_json: bool) -> None:
    if as_json:
        problems = [{"line": number, "problem": problem} for number, problem in outcome.problems]
        counts = {"n_sent": outcome.n_sent, "n_refused": outcome.n_refused}
        typer.echo(json.dumps(counts | {"problems": problems, "seconds": round(seconds, 3)}))
        return
    typer.echo(f"{outcome.n_sent:,} events are durable, {outcome.n_refused:,} lines refused")
    console = Console(stderr=True)
    for number, problem in outcome.problems:
        console.print(f"line {number}: {escape(problem)}", highlight=False)
    if outcome.n_refused > len(outcome.problems):
        console.print(f"and {outcome.n_refused - len(outcome.problems):,} more")
