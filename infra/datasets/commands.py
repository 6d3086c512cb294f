"""`freshet data`: fetch, list, inspect and convert data sets.

Results go to stdout, progress to stderr, so that --json can be piped.
"""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.datasets.fetch import PackageDownloader
from infra.datasets.fetch import fetch as fetch_dataset
from infra.datasets.known import KNOWN
from infra.datasets.loading import name_of, read
from infra.datasets.locate import fetched_folder, find_known, locate
from infra.datasets.report import ImportReport, OnBytes
from infra.datasets.sources import recognise
from infra.datasets.summary import Summary, summarise
from infra.datasets.tables import Dataset
from infra.datasets.writing import write

N_SHOWN_BAD_ROWS = 10

app = typer.Typer(no_args_is_help=True, help="Fetch, list, inspect and convert data sets.")

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of data sets, looked at first.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Spec = Annotated[str, typer.Argument(help="A known name, or the path of a folder or file.")]


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="ml-100k")]) -> None:
    """Download a data set into the state folder."""
    with Console(stderr=True).status(f"fetching {escape(name)}") as status:
        folder, is_new = fetch_dataset(name, fetched_folder(), PackageDownloader(), status.update)
    print(f"{name} is {'now' if is_new else 'already'} in {folder}")
    print(f"Licence: {KNOWN[name].licence}.")


@app.command(name="list")
def list_datasets(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the known data sets and where they are."""
    rows = []
    for known in KNOWN.values():
        found = find_known(known.name, data)
        rows.append({**dataclasses.asdict(known), "path": str(found) if found else None})
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("name", "what", "where", "licence")
    for row in rows:
        where = row["path"] or f"missing: {row['how_to_get']}"
        table.add_row(
            *(escape(str(cell)) for cell in (row["name"], row["title"], where, row["licence"]))
        )
    Console().print(table)


@app.command()
def inspect(spec: Spec, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Count what a data set holds, and show the rows that could not be read."""
    dataset = _load(spec, data)
    summary = summarise(dataset)
    if as_json:
        record = {**dataclasses.asdict(summary), "report": dataclasses.asdict(dataset.report)}
        print(json.dumps(record))
        return
    _print_summary(summary)
    _print_report(dataset)


@app.command()
def convert(
    spec: Spec,
    out: Annotated[Path, typer.Argument(help="Folder for events.* and items.*.")],
    file_format: Annotated[
        str, typer.Option("--format", help="parquet, csv or jsonl.")
    ] = "parquet",
    data: DataOption = None,
) -> None:
    """Write a data set in the general form."""
    dataset = _load(spec, data)
    n_rows = dataset.events.num_rows + dataset.items.num_rows
    with _progress("writing rows", n_rows) as advance:
        paths = write(dataset, out, file_format, advance)
    _print_report(dataset)
    for path in paths:
        print(path)


def _load(spec: str, data: Path | None) -> Dataset:
    path = locate(spec, data)
    source = recognise(path)
    n_bytes = sum(file.stat().st_size for file in source.files)
    with _progress("reading bytes", n_bytes) as advance:
        return read(source, name_of(spec, path), advance)


@contextmanager
def _progress(what: str, total: int) -> Iterator[OnBytes]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)


def _print_summary(summary: Summary) -> None:
    table = Table(title=escape(summary.name), show_header=False)
    rows = {
        "events": f"{summary.n_events:,}",
        "users": f"{summary.n_users:,}",
        "items in the catalogue": f"{summary.n_items:,}",
        "items with events": f"{summary.n_items_with_events:,}",
        "events without an item": f"{summary.n_events_without_item:,}",
        "first event": _moment(summary.first_event_ms),
        "last event": _moment(summary.last_event_ms),
        "longest history": f"{summary.longest_history:,}",
        "median history": f"{summary.median_history:,.1f}",
    }
    rows |= {f"action {name}": f"{n:,}" for name, n in summary.n_events_by_action.items()}
    for name, figure in rows.items():
        table.add_row(name, figure)
    Console().print(table)


def _moment(time_ms: int | None) -> str:
    if time_ms is None:
        return "none"
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")


def _print_report(dataset: Dataset) -> None:
    console = Console(highlight=False)
    for note in dataset.report.notes:
        console.print(f"note: {escape(note)}")
    reports = {"events": dataset.report.events, "items": dataset.report.items}
    for what, report in reports.items():
        console.print(
            f"{what}: {report.n_read:,} rows read, {report.n_kept:,} kept, "
            f"{report.n_filtered:,} filtered by rule, {report.n_bad:,} unreadable"
        )
        _print_rows(console, report)


def _print_rows(console: Console, report: ImportReport) -> None:
    for rule, n_rows in report.filtered_by_rule.items():
        console.print(f"  filtered, {escape(rule)}: {n_rows:,}")
    for reason, n_rows in report.bad_by_reason.items():
        console.print(f"  unreadable, {escape(reason)}: {n_rows:,}")
    for row in report.bad[:N_SHOWN_BAD_ROWS]:
        console.print(f"    {escape(f'{row.file}:{row.line}: {row.reason}: {row.text}')}")
