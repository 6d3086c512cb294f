"""`freshet dlq`: look at events that could not be applied, and send them again."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, TypedDict

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.endpoints import Endpoints
from infra.kafka_log import open_log
from infra.kafka_topics import Topics
from infra.settings import SharedSettings
from protos.errors import InvalidInput
from stream.dead_letters import DeadLetter, DeadLetterReader
from stream.kafka_writer import KafkaWriter, WriterOptions
from stream.redrive import Redriven, examine, redrive

N_SHOWN_BYTES = 512

app = typer.Typer(no_args_is_help=True, help="Look at events that could not be applied.")

N_SHOWN_PROBLEMS = 20


class Outcome(TypedDict):
    """What a redrive did."""

    n_sent: int
    problems: dict[str, str]
    """Why a letter cannot be sent, by its place."""
    dry_run: bool


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(name="list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest N.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the newest dead letters, newest first."""
    with _reader() as reader:
        letters = reader.newest(limit)
        again = reader.redriven() if letters else set()
    if as_json:
        records = [letter.record() | {"redriven": letter.place in again} for letter in letters]
        print(json.dumps(records))
        return
    if not letters:
        print("no dead letters")
        return
    table = Table("place", "when", "reason", "detail", "source", "redriven")
    for letter in letters:
        reason, detail = letter.header("reason"), letter.header("detail")
        when, is_again = _moment(letter.timestamp_ms), "yes" if letter.place in again else ""
        cells = (letter.place, when, reason, detail, letter.source(), is_again)
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)


@app.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="From `list`.")],
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole."""
    partition, offset = _parsed(place)
    with _reader() as reader:
        letter = reader.one(partition, offset)
    if as_json:
        print(json.dumps(letter.record()))
        return
    for name, value in _lines(letter):
        print(f"{name:20} {value}")


@app.command(name="redrive")
def send_again(
    places: Annotated[
        list[str] | None, typer.Argument(metavar="[PARTITION:OFFSET]...", help="From `list`.")
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="All with this reason; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    again: Annotated[bool, typer.Option(help="Those too that were redriven before.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Say what would be sent, and send nothing.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=1, help="Seconds to wait for Kafka.")] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters to rec.events again, once what was wrong with them is mended.

    Each goes once, unless you say --again. What is still wrong comes back as a new dead letter.
    """
    if sum(map(bool, (places, reason, everything))) != 1:
        raise InvalidInput("name letters by place, or choose --reason or --all")
    named = {f"{partition}:{offset}" for partition, offset in map(_parsed, places or ())}
    with _reader() as reader:
        chosen: Iterator[DeadLetter] = (
            (reader.one(*_parsed(place)) for place in sorted(named)) if named else reader.every()
        )
        done = set() if again else reader.redriven()
        wanted = (
            letter
            for letter in chosen
            if letter.place not in done and (not reason or letter.header("reason") in reason)
        )
        result = _redrive(wanted, timeout_s, dry_run=dry_run)
    if as_json:
        print(json.dumps(result))
        return
    verb = "would be sent" if dry_run else "sent again and durable"
    print(f"{result['n_sent']:,} {verb}, {len(result['problems']):,} cannot be sent")
    for place, problem in list(result["problems"].items())[:N_SHOWN_PROBLEMS]:
        print(f"  {place}: {problem}")


def _redrive(wanted: Iterator[DeadLetter], timeout_s: float, *, dry_run: bool) -> Outcome:
    outcome: Outcome = {"n_sent": 0, "problems": {}, "dry_run": dry_run}
    address, topics = Endpoints.load().kafka_bootstrap, Topics(SharedSettings().topic_prefix)
    options = WriterOptions(timeout_s=timeout_s, linger_ms=5, client_id="freshet-redrive")
    bar = (SpinnerColumn(), TextColumn("{task.completed:,} redriven"), TimeElapsedColumn())
    with Progress(*bar, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)
        if dry_run:
            _tally(map(examine, wanted), outcome, lambda: progress.advance(task))
            return outcome
        writer = KafkaWriter(address, options)
        try:
            results = redrive(wanted, writer, topics, timeout_s=timeout_s)
            _tally(results, outcome, lambda: progress.advance(task))
        finally:
            writer.close()
    return outcome


def _tally(results: Iterable[Redriven], outcome: Outcome, advance: Callable[[], None]) -> None:
    for one in results:
        advance()
        if one.problem:
            outcome["problems"][one.letter.place] = one.problem
        else:
            outcome["n_sent"] += 1


def _lines(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    yield "place", letter.place
    yield "when", _moment(letter.timestamp_ms)
    yield "key", "none" if letter.key is None else letter.key.decode(errors="backslashreplace")
    yield from letter.headers.items()
    batch, value = letter.batch(), letter.value or b""
    if batch is not None:
        yield "value", json.dumps(batch, indent=2)
    else:
        cut = "..." if len(value) > N_SHOWN_BYTES else ""
        yield "value", f"{len(value):,} bytes, no EventBatch: {value[:N_SHOWN_BYTES].hex(' ')}{cut}"


def _parsed(place: str) -> tuple[int, int]:
    partition, _, offset = place.partition(":")
    try:
        return int(partition), int(offset)
    except ValueError as error:
        raise InvalidInput(f"{place!r} is not PARTITION:OFFSET, e.g. 0:17") from error


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")


@contextmanager
def _reader() -> Iterator[DeadLetterReader]:
    # Errors reach the user as ours; the client's own words on the way there would only repeat them.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    topic = Topics(SharedSettings().topic_prefix).dead_letters
    with (
        Console(stderr=True).status("reading dead letters"),
        open_log(Endpoints.load().kafka_bootstrap, topic) as log,
    ):
        yield DeadLetterReader(log)
