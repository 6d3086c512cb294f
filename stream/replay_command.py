"""`freshet replay`: a data set into Kafka, at its own speed, at a fixed rate, or flat out."""

import dataclasses
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from infra.datasets import load
from infra.endpoints import Endpoints
from infra.settings import SharedSettings
from protos.errors import InvalidInput
from stream.item_publisher import ItemPublisher
from stream.kafka_writer import KafkaWriter, WriterOptions
from stream.producer import Producer, now_ms
from stream.replay import OnSent, Pace, Part, Sender, make_items, plan, select, shift_to
from stream.validity import MAX_EVENTS

REDRAW_S = 0.1
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became durable."""

    dataset: str
    n_items: int
    n_events: int
    n_records: int
    seconds: float
    events_per_s: float
    interrupted: bool
    next_skip: int
    """`--skip` of a replay that continues this one."""


def replay(
    spec: Annotated[str, typer.Argument(help="ml-100k, ml-1m, online-retail, or a path.")],
    data: Annotated[Path | None, typer.Option(help="Folder of data sets, looked at first.")] = None,
    speed: Annotated[float | None, typer.Option(help="Times as fast as the data.")] = None,
    rate: Annotated[float | None, typer.Option(help="Events per second.")] = None,
    flat_out: Annotated[bool, typer.Option(help="As fast as it goes (the default).")] = False,
    until: Annotated[
        float, typer.Option(min=0, max=1, help="Only the first share of the events, by time.")
    ] = 1.0,
    users: Annotated[int | None, typer.Option(min=1, help="Only the first N users.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="Continue after N events.")] = 0,
    limit: Annotated[int | None, typer.Option(min=0, help="At most N events.")] = None,
    items: Annotated[bool, typer.Option(help="Send the catalogue first.")] = True,
    items_only: Annotated[bool, typer.Option(help="Send the catalogue alone.")] = False,
    tenant: Annotated[str, typer.Option(help="Whose data it becomes.")] = "default",
    shift_to_now: Annotated[bool, typer.Option(help="Make the newest event's time now.")] = False,
    events_per_record: Annotated[
        int, typer.Option(min=1, max=MAX_EVENTS, help="For backfills: up to N of one user.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send a data set into Kafka: the items first, then the events in time order."""
    pace = _pace(speed, rate, flat_out)
    part = Part(until, skip, 0 if items_only else limit, users)
    console = Console(stderr=True)
    with console.status(f"reading {escape(spec)}"):
        dataset = load(spec, data)
        events = select(dataset, part)
    if shift_to_now:
        events = shift_to(events, now_ms())
    for remark in dataset.report.remarks():
        console.print(f"note: {escape(remark)}", highlight=False)
    catalogue = dataset.items if items or items_only else dataset.items.slice(0, 0)
    with _stop_at_interrupt() as stop, _open(tenant, stop) as sender:
        start = time.monotonic()
        with _progress(console) as progress:
            sender.send_items(make_items(catalogue), _bar(progress, "items", len(catalogue)))
            records = plan(events, dataset.name, pace, events_per_record)
            sender.send_events(records, _bar(progress, "events", len(events)))
            sender.finish()
        seconds = time.monotonic() - start
        _report(_summary(dataset.name, sender, seconds, stop.is_set(), skip), as_json)
    if stop.is_set():
        raise typer.Exit(INTERRUPTED)


def _pace(speed: float | None, rate: float | None, flat_out: bool) -> Pace:
    if (speed is not None) + (rate is not None) + flat_out > 1:
        raise InvalidInput("choose one of --speed, --rate and --flat-out")
    for name, value in (("--speed", speed), ("--rate", rate)):
        if value is not None and not 0 < value < float("inf"):
            raise InvalidInput(f"{name} is {value:g}; give a number above 0, or --flat-out")
    return Pace(speed, rate)


@contextmanager
def _open(tenant: str, stop: threading.Event) -> Iterator[Sender]:
    # Errors reach the user as ours; the client's own words on the way there would only repeat them.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    prefix = SharedSettings().topic_prefix
    options = WriterOptions(timeout_s=30, linger_ms=5, client_id="freshet-replay")
    writer = KafkaWriter(Endpoints.load().kafka_bootstrap, options)
    try:
        producer = Producer(writer, topic_prefix=prefix, options=options)
        items = ItemPublisher(writer, topic_prefix=prefix, options=options)
        yield Sender(producer, items, tenant=tenant, stop=stop)
    finally:
        writer.close()


@contextmanager
def _stop_at_interrupt() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C sets; the second one interrupts as usual."""
    stop = threading.Event()

    def catch(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, catch)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
    )


def _bar(progress: Progress, what: str, total: int) -> OnSent:
    """Return what advances a bar, at most so often that drawing costs nothing."""
    if not total:
        return lambda n: None
    task = progress.add_task(what, total=total)
    n_sent, drawn_at = 0, 0.0

    def advance(n: int) -> None:
        nonlocal n_sent, drawn_at
        n_sent += n
        now = time.monotonic()
        if now - drawn_at > REDRAW_S or n_sent == total:
            drawn_at = now
            progress.update(task, completed=n_sent)

    return advance


def _summary(name: str, sender: Sender, seconds: float, interrupted: bool, skip: int) -> Summary:
    return Summary(
        name,
        sender.n_items,
        sender.n_events,
        sender.n_records,
        round(seconds, 3),
        round(sender.n_events / seconds, 1) if seconds else 0.0,
        interrupted,
        skip + sender.n_events,
    )


def _report(summary: Summary, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(summary)))
        return
    typer.echo(
        f"{summary.dataset}: {summary.n_items:,} items and {summary.n_events:,} events are in "
        f"Kafka ({summary.seconds:.1f} s, {summary.events_per_s:,.0f} events/s)"
    )
    if summary.interrupted:
        typer.echo(f"interrupted; continue with the same words and --skip {summary.next_skip}")
