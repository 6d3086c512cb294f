"""`freshet export`: the log as a data set that `freshet train` reads."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra.datasets.catalogue import CATALOGUE_SCHEMA
from infra.datasets.writing import write_batches
from infra.endpoints import Endpoints
from infra.kafka_log import KafkaLog, Offsets, open_log
from infra.kafka_topics import Topics
from infra.settings import SharedSettings
from protos.keys import checked_tenant
from stream.export import EXPORT_SCHEMA, ExportReport, ReadPartition, event_batches, item_batches
from stream.folding import LogRecord

REDRAW_RECORDS = 1_000


def export(
    out: Annotated[Path, typer.Argument(help="A new folder, for events.* and items.*.")],
    tenant: Annotated[str, typer.Option(help="Whose events.")] = "default",
    file_format: Annotated[
        str, typer.Option("--format", help="parquet, csv or jsonl.")
    ] = "parquet",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write what rec.events and rec.items hold now; train on it with `freshet train FOLDER`.

    Each event that counts in a history is a row, once, in the order of its partition. Events from
    before a user's erasure are left out.
    """
    # Errors reach the user as ours; the client's own words on the way there would only repeat them.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    tenant = checked_tenant(tenant)
    bootstrap, topics = Endpoints.load().kafka_bootstrap, Topics(SharedSettings().topic_prefix)
    report, start = ExportReport(), time.monotonic()
    with open_log(bootstrap, topics.events) as events, open_log(bootstrap, topics.items) as items:
        begins, ends = events.bounds()
        with _watched(events, begins, ends) as read:
            batches = event_batches(read, sorted(begins), len(events.partitions), tenant, report)
            tables = {
                "items": (CATALOGUE_SCHEMA, item_batches(items.read(), tenant, report)),
                "events": (EXPORT_SCHEMA, batches),
            }
            paths = write_batches(tables, out, file_format)
    seconds = time.monotonic() - start
    if as_json:
        print(json.dumps(_summary(report, begins, paths, seconds)))
    else:
        _print(report, begins, paths)


@contextmanager
def _watched(log: KafkaLog, begins: Offsets, ends: Offsets) -> Iterator[ReadPartition]:
    """Give a reader of partitions that shows how far it is; each is read twice."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        total = 2 * sum(ends[number] - begins[number] for number in begins)
        task = progress.add_task("reading records", total=total)

        def read(number: int) -> Iterator[LogRecord]:
            seen = begins[number]
            for record in log.read({number: begins[number]}, {number: ends[number]}):
                if record.offset >= seen + REDRAW_RECORDS:
                    progress.advance(task, record.offset - seen)
                    seen = record.offset
                yield record
            progress.advance(task, ends[number] - seen)

        yield read


def _summary(
    report: ExportReport, begins: Offsets, paths: list[Path], seconds: float
) -> dict[str, object]:
    return {
        "n_events": report.n_events,
        "n_users": len(report.users),
        "n_items": report.n_items,
        "left_out": dict(report.left_out),
        "log_begins_at": {str(number): begin for number, begin in sorted(begins.items())},
        "files": [str(path) for path in paths],
        "seconds": round(seconds, 3),
    }


def _print(report: ExportReport, begins: Offsets, paths: list[Path]) -> None:
    n_users = len(report.users)
    print(f"{report.n_events:,} events of {n_users:,} users, {report.n_items:,} items")
    for reason, n in sorted(report.left_out.items()):
        print(f"left out: {n:,} {reason}")
    if any(begins.values()):
        print("note: the log's oldest records are gone (retention); the histories begin later")
    for path in paths:
        print(path)
