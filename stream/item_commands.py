"""`freshet items`: the catalogue from a file, into a file, and single items out of it."""

import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from infra.datasets.catalogue import CATALOGUE_SCHEMA, find_catalogue, read_catalogue
from infra.datasets.loading import readable
from infra.datasets.report import Tally
from infra.datasets.writing import FORMATS, write_table
from infra.endpoints import Endpoints
from infra.kafka_log import open_log
from infra.kafka_topics import Topics
from infra.settings import SharedSettings
from protos.errors import InvalidInput
from protos.keys import checked_tenant
from stream.export import ExportReport, item_batches
from stream.folding import LogRecord
from stream.gateway_client import GatewayClient
from stream.item_import import N_SHOWN, Outcome, delete_all, upsert_all
from stream.item_rows import item_of

REDRAW_RECORDS = 1_000

app = typer.Typer(no_args_is_help=True, help="The catalogue: items in, out, and away.")

TenantOption = Annotated[str, typer.Option(help="Whose catalogue.")]
TimeoutOption = Annotated[float, typer.Option(min=1, help="Seconds to wait for one request.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(name="import")
def import_items(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER|-", help="Parquet, CSV or JSONL; a folder with items.*; or stdin."
        ),
    ],
    file_format: Annotated[
        str, typer.Option("--format", help="Of stdin: jsonl, csv or parquet.")
    ] = "jsonl",
    tenant: TenantOption = "default",
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Insert or replace the items of a file, through the gateway.

    Columns: item_id, title; text, categories (a list, or separated by |), created_at_ms or
    created_at, available, popularity, and attributes: one column with a JSON object, or columns
    text.NAME, number.NAME, flag.NAME.

    Exit code 1 when an item was refused. Running it again is harmless, and is how an import that
    was stopped goes on.
    """
    tenant, outcome, start = checked_tenant(tenant), Outcome(), time.monotonic()
    with _file(source, file_format) as path, _bar(path.stat().st_size) as (progress, task):
        tally = Tally(lambda n_bytes: progress.advance(task, n_bytes), max_kept=N_SHOWN)
        items = (item_of(row) for batch in read_catalogue(path, tally) for row in batch.to_pylist())

        def draw() -> None:
            progress.update(task, description=f"{outcome.n_done:,} items")

        async def run() -> None:
            async with GatewayClient(Endpoints.load().gateway, timeout_s=timeout_s) as gateway:
                await upsert_all(items, tenant, gateway, outcome, draw)

        with readable(source):
            asyncio.run(run())
        _add_unreadable(outcome, tally)
    _report(outcome, "items are in the catalogue", time.monotonic() - start, as_json)


@app.command(name="export")
def export_items(
    file: Annotated[Path, typer.Argument(help="A new file: .parquet, .csv or .jsonl.")],
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Write what the catalogue holds now, straight from rec.items; `import` reads it again."""
    # Errors reach the user as ours; the client's own words on the way there would only repeat them.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    tenant, report, start = checked_tenant(tenant), ExportReport(), time.monotonic()
    bootstrap, topics = Endpoints.load().kafka_bootstrap, Topics(SharedSettings().topic_prefix)
    with open_log(bootstrap, topics.items) as log:
        batches = item_batches(_watched(log.read()), tenant, report)
        path = write_table(CATALOGUE_SCHEMA, batches, file)
    if as_json:
        left_out, seconds = dict(report.left_out), round(time.monotonic() - start, 3)
        counts = {"n_items": report.n_items, "left_out": left_out}
        typer.echo(json.dumps(counts | {"file": str(path), "seconds": seconds}))
        return
    typer.echo(f"{report.n_items:,} items in {path}")
    for reason, n in sorted(report.left_out.items()):
        typer.echo(f"left out: {n:,} {reason}")


@app.command(name="delete")
def delete_items(
    item_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...")] = None,
    from_file: Annotated[
        str | None, typer.Option("--from", help="A file with one id a line; - is stdin.")
    ] = None,
    tenant: TenantOption = "default",
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Delete items: they leave every feed. Deleting an unknown item changes nothing.

    Exit code 1 when an id was refused.
    """
    if bool(item_ids) == bool(from_file):
        raise InvalidInput("name the items, or a file of their ids by --from")
    ids = item_ids or _ids(from_file or "")
    tenant, outcome, start = checked_tenant(tenant), Outcome(), time.monotonic()

    async def run() -> None:
        async with GatewayClient(Endpoints.load().gateway, timeout_s=timeout_s) as gateway:
            await delete_all(ids, tenant, gateway, outcome)

    with Console(stderr=True).status(f"deleting {len(ids):,} items"):
        asyncio.run(run())
    _report(outcome, "items are deleted", time.monotonic() - start, as_json)


@contextmanager
def _file(source: str, file_format: str) -> Iterator[Path]:
    """Give the file to read; stdin is first read to its end, so that any format will do."""
    if source != "-":
        yield find_catalogue(Path(source))
        return
    if file_format not in FORMATS:
        raise InvalidInput(f"--format {file_format!r} is none of {', '.join(FORMATS)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"stdin.{file_format}"
        with path.open("wb") as spool:
            shutil.copyfileobj(sys.stdin.buffer, spool)
        yield path


def _ids(file: str) -> list[str]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--from {file} cannot be read ({error}); check the file") from error
    return [item_id for line in text.split("\n") if (item_id := line.removesuffix("\r"))]


@contextmanager
def _bar(n_bytes: int) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress, progress.add_task("0 items", total=n_bytes)


def _watched(records: Iterable[LogRecord]) -> Iterator[LogRecord]:
    bar = (SpinnerColumn(), TextColumn("{task.completed:,} records read"), TimeElapsedColumn())
    with Progress(*bar, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)
        for number, record in enumerate(records, 1):
            if number % REDRAW_RECORDS == 0:
                progress.update(task, completed=number)
            yield record


def _add_unreadable(outcome: Outcome, tally: Tally) -> None:
    report = tally.report()
    for row in report.bad:
        outcome.refuse(f"{row.file} line {row.line}", row.reason)
    outcome.n_refused += report.n_bad - len(report.bad)


def _report(outcome: Outcome, done: str, seconds: float, as_json: bool) -> None:
    """Print what became of the items. Raises Exit(1) when any was refused."""
    if as_json:
        problems = [{"which": which, "why": why} for which, why in outcome.problems]
        counts = {"n_done": outcome.n_done, "n_refused": outcome.n_refused}
        typer.echo(json.dumps(counts | {"problems": problems, "seconds": round(seconds, 3)}))
    else:
        typer.echo(f"{outcome.n_done:,} {done}, {outcome.n_refused:,} refused")
        console = Console(stderr=True)
        for which, why in outcome.problems:
            console.print(f"{escape(which)}: {escape(why)}", highlight=False, soft_wrap=True)
        if outcome.n_refused > len(outcome.problems):
            console.print(f"and {outcome.n_refused - len(outcome.problems):,} more")
    if outcome.n_refused:
        raise typer.Exit(1)
