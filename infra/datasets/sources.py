"""Which form the files of a data set have, and so which reader reads them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from infra.datasets import general, movielens, recbole, retail
from infra.datasets.delimited import CSV, read_header
from infra.datasets.parquet import parquet_columns
from infra.datasets.report import Tally
from protos.errors import InvalidInput

Read = Callable[[Tally], Iterator[pa.RecordBatch]]

NO_ITEMS_NOTE = "no file of items: the catalogue is empty"
FORMS = (
    "events.parquet|csv|jsonl with items.* beside it, RecBole's .inter and .item, MovieLens' "
    "ratings.dat and movies.dat, or Online Retail's CSV files"
)


@dataclass(frozen=True, slots=True)
class Source:
    form: str
    files: tuple[Path, ...]
    read_events: Read
    read_items: Read
    """Call it when the events have been read to their end: a catalogue may come from them."""
    notes: tuple[str, ...] = ()


def recognise(path: Path) -> Source:
    """Return how to read a folder or a file.

    Raises:
        InvalidInput: it has none of the known forms, or several files that could be meant.
    """
    source = _of_folder(path) if path.is_dir() else _of_file(path)
    if source is None:
        raise InvalidInput(f"{path} has no form known here; known are {FORMS}")
    return source


def _of_folder(folder: Path) -> Source | None:
    if inter := _only(folder, sorted(folder.glob("*.inter"))):
        return _of_recbole(inter)
    if (folder / "ratings.dat").is_file():
        return _of_movielens(folder / "ratings.dat")
    if events := _only(folder, [p for p in map(folder.joinpath, _EVENTS_FILES) if p.is_file()]):
        return _of_file(events)
    invoices = [path for path in sorted(folder.glob("*.csv")) if _is_retail(path)]
    return _of_retail(invoices) if invoices else None


_EVENTS_FILES = tuple(f"events{suffix}" for suffix in general.SUFFIXES)


def _only(folder: Path, paths: list[Path]) -> Path | None:
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise InvalidInput(f"{folder} holds several data sets ({names}); give the path of one file")
    return paths[0] if paths else None


def _of_file(path: Path) -> Source | None:
    if path.suffix == ".inter":
        return _of_recbole(path)
    if path.suffix == ".dat":
        return _of_movielens(path)
    if path.suffix == ".parquet" and _is_positions(path):
        return _of_movielens(path)
    if path.suffix == ".csv" and _is_retail(path):
        return _of_retail([path])
    return _of_general(path) if path.suffix in general.SUFFIXES else None


def _is_positions(path: Path) -> bool:
    names = parquet_columns(path)
    has_time = "event_time_ms" in names or "event_time" in names
    return not has_time and set(movielens.POSITION_COLUMNS) <= set(names)


def _is_retail(path: Path) -> bool:
    return set(retail.RETAIL_COLUMNS) <= set(read_header(path, CSV))


def _of_recbole(path: Path) -> Source:
    items = path.with_suffix(".item")
    return _source("recbole", path, recbole.read_interactions, items, recbole.read_items)


def _of_movielens(path: Path) -> Source:
    movies = path.with_name("movies.dat")
    if path.suffix == ".dat":
        return _source("movielens", path, movielens.read_ratings, movies, movielens.read_movies)
    notes = (movielens.POSITION_NOTE,)
    return _source(
        "movielens", path, movielens.read_positions, movies, movielens.read_movies, notes
    )


def _of_general(path: Path) -> Source:
    items = path.with_name(path.name.replace("events", "items"))
    beside = items if items != path else None  # a file by another name has no items beside it
    return _source("general", path, general.read_events, beside, general.read_items)


ReadFile = Callable[[Path, Tally], Iterator[pa.RecordBatch]]


def _source(
    form: str,
    events: Path,
    read_events: ReadFile,
    items: Path | None,
    read_items: ReadFile,
    notes: tuple[str, ...] = (),
) -> Source:
    if items is not None and items.is_file():
        return Source(
            form, (events, items), partial(read_events, events), partial(read_items, items), notes
        )
    return Source(form, (events,), partial(read_events, events), _no_items, (*notes, NO_ITEMS_NOTE))


def _no_items(tally: Tally) -> Iterator[pa.RecordBatch]:
    return iter(())


def _of_retail(paths: list[Path]) -> Source:
    catalogue = retail.Catalogue()

    def items(tally: Tally) -> Iterator[pa.RecordBatch]:
        table = catalogue.items()
        tally.keep(table.num_rows)
        yield from table.to_batches()

    def events(tally: Tally) -> Iterator[pa.RecordBatch]:
        return retail.read_purchases(paths, tally, catalogue)

    return Source("online-retail", tuple(paths), events, items)
