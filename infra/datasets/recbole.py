"""RecBole's atomic files: NAME.inter (events) and NAME.item, tab-separated, header `name:type`.

Sets differ in their columns, so the few that mean something here are found by their usual names.
Lines are UTF-8, or else Latin-1. Sequences (token_seq) are separated by spaces. Timestamps are
seconds. A rating is read as five stars, as in MovieLens; without one an event is a `view`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.datasets.checks import Checks
from infra.datasets.chunks import Chunk
from infra.datasets.delimited import Dialect, delimited_chunks, read_header, require
from infra.datasets.ratings import actions_of, item_texts, split_categories
from infra.datasets.report import Tally
from infra.datasets.tables import EVENTS_SCHEMA, ITEMS_SCHEMA

ATOMIC = Dialect("\t", is_latin1=True)
EVENT_COLUMNS = ("user_id", "item_id", "timestamp")
TITLE_COLUMNS = ("movie_title", "title", "name", "item_name")
YEAR_COLUMNS = ("release_year", "year")
CATEGORY_COLUMNS = ("class", "genre", "genres", "categories", "category")


def _names(path: Path) -> list[str]:
    return [cell.partition(":")[0] for cell in read_header(path, ATOMIC)]


def read_interactions(path: Path, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Yield the events of a .inter file."""
    names = _names(path)
    require(path, names, EVENT_COLUMNS)
    wanted = (*EVENT_COLUMNS, "rating")
    for chunk in delimited_chunks(path, ATOMIC, names, wanted, has_header=True):
        yield _events(chunk, tally)


def _events(chunk: Chunk, tally: Tally) -> pa.RecordBatch:
    checks = Checks(chunk, tally)
    ratings = checks.numbers("rating")
    columns = {
        "user_id": checks.ids("user_id"),
        "item_id": checks.ids("item_id"),
        "event_time_ms": checks.seconds("timestamp"),
        "action": pc.fill_null(actions_of(ratings), "view"),
        "value": ratings,
    }
    return checks.batch(EVENTS_SCHEMA, columns)


def read_items(path: Path, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Yield the items of a .item file."""
    names = _names(path)
    title = _first(TITLE_COLUMNS, names) or TITLE_COLUMNS[0]
    require(path, names, ("item_id", title))
    year, category = _first(YEAR_COLUMNS, names), _first(CATEGORY_COLUMNS, names)
    wanted = ("item_id", title, year, category)
    seen: set[str] = set()
    for chunk in delimited_chunks(path, ATOMIC, names, filter(None, wanted), has_header=True):
        checks = Checks(chunk, tally)
        titles = _with_year(checks.filled(title), checks.text(year))
        categories = split_categories(checks.text(category), " ")
        columns = {
            "title": titles,
            "text": item_texts(titles, categories),
            "categories": categories,
            "created_at_ms": pa.nulls(len(titles)),
            "item_id": checks.new_ids("item_id", seen),
        }
        yield checks.batch(ITEMS_SCHEMA, columns)


def _first(candidates: Sequence[str], names: Sequence[str]) -> str:
    return next((name for name in candidates if name in names), "")


def _with_year(titles: pa.Array, years: pa.Array) -> pa.Array:
    is_year = pc.match_substring_regex(years, "^[0-9]{4}$").fill_null(False)
    dated = pc.binary_join_element_wise(
        titles, pc.binary_join_element_wise(" (", years, ")", ""), ""
    )
    return pc.if_else(is_year, dated, titles)
