"""The general form: events.* and items.* as Parquet, CSV or JSON Lines, columns found by name.

events: user_id, item_id, and event_time_ms (since 1970) or event_time (ISO 8601; without a zone it
        is UTC); action may be absent or empty (then `view`), value may be.
items:  item_id, title; text may be absent (then title and categories), categories (a list, or text
        separated by |) and created_at_ms or created_at may be.

Other columns are ignored. In CSV an empty cell is an absent value.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.datasets.checks import Checks
from infra.datasets.chunks import Chunk
from infra.datasets.delimited import CSV, delimited_chunks, read_header, require
from infra.datasets.jsonl import jsonl_chunks
from infra.datasets.parquet import parquet_chunks, parquet_columns
from infra.datasets.ratings import item_texts, split_categories
from infra.datasets.report import Tally
from infra.datasets.tables import EVENTS_SCHEMA, ITEMS_SCHEMA
from protos.errors import InvalidInput

SUFFIXES = (".parquet", ".csv", ".jsonl")
DEFAULT_ACTION = "view"
_EVENT_COLUMNS = ("user_id", "item_id", "event_time_ms", "event_time", "action", "value")
ITEM_COLUMNS = ("item_id", "title", "text", "categories", "created_at_ms", "created_at")


def read_events(
    path: Path, tally: Tally, default_action: str = DEFAULT_ACTION
) -> Iterator[pa.RecordBatch]:
    """Yield the events of a file in the general form."""
    names = file_columns(path)
    if names is not None:
        require(path, names, ("user_id", "item_id"))
        if "event_time" not in names:
            require(path, names, ("event_time_ms",))
    for chunk in file_chunks(path, names, _EVENT_COLUMNS):
        checks = Checks(chunk, tally)
        columns = {
            "user_id": checks.ids("user_id"),
            "item_id": checks.ids("item_id"),
            "event_time_ms": checks.times_ms("event_time_ms", "event_time", required=True),
            "action": checks.actions("action", default_action),
            "value": checks.numbers("value"),
        }
        yield checks.batch(EVENTS_SCHEMA, columns)


def read_items(path: Path, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Yield the items of a file in the general form."""
    names = file_columns(path)
    if names is not None:
        require(path, names, ("item_id", "title"))
    seen: set[str] = set()
    for chunk in file_chunks(path, names, ITEM_COLUMNS):
        yield _items(Checks(chunk, tally), seen)


def _items(checks: Checks, seen: set[str]) -> pa.RecordBatch:
    columns = item_columns(checks, checks.filled("title"))
    return checks.batch(ITEMS_SCHEMA, columns | {"item_id": checks.new_ids("item_id", seen)})


def item_columns(checks: Checks, titles: pa.Array) -> dict[str, pa.Array]:
    """Return the columns of ITEMS_SCHEMA but the ids, which are checked last."""
    texts, categories = checks.text("text"), _categories(checks.text("categories"))
    has_text = pc.greater(pc.binary_length(texts), 0).fill_null(False)
    return {
        "title": titles,
        "text": pc.if_else(has_text, texts, item_texts(titles, categories)),
        "categories": categories,
        "created_at_ms": checks.times_ms("created_at_ms", "created_at", required=False),
    }


def _categories(cells: pa.Array) -> pa.Array:
    if not pa.types.is_list(cells.type):
        return split_categories(cells, "|")
    lists = [[tag for tag in tags or () if tag] for tags in cells.to_pylist()]
    return pa.array(lists, pa.list_(pa.string()))


def file_columns(path: Path) -> list[str] | None:
    """Return a file's columns; None for JSON Lines, where each line has its own."""
    if path.suffix == ".parquet":
        return parquet_columns(path)
    return read_header(path, CSV) if path.suffix == ".csv" else None


def file_chunks(path: Path, names: list[str] | None, wanted: Sequence[str]) -> Iterator[Chunk]:
    """Yield the wanted columns of a file that has the columns `names` (see `file_columns`)."""
    if path.suffix == ".parquet":
        return parquet_chunks(path, wanted)
    if path.suffix == ".jsonl":
        return jsonl_chunks(path, wanted)
    if names is None or path.suffix != ".csv":
        raise InvalidInput(f"{path} is none of {', '.join(SUFFIXES)}; rename or convert it")
    return delimited_chunks(path, CSV, names, wanted, has_header=True)
