"""MovieLens in its original `::` files: ratings.dat and movies.dat.

Lines are UTF-8, or else Latin-1 (1M is Latin-1, later sets are UTF-8). A rating of four or more is
a `like`, another a `view`; its value is the rating.

Also read is a folder whose ratings.dat is replaced by an events.parquet without timestamps (columns
user_id, item_id, position, rating; position is each user's own order). Its times are made up: one
minute a position, so that each user's order is kept and nothing else is claimed.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.datasets.checks import Checks
from infra.datasets.chunks import Chunk
from infra.datasets.delimited import Dialect, delimited_chunks, require
from infra.datasets.parquet import parquet_chunks, parquet_columns
from infra.datasets.ratings import actions_of, item_texts, split_categories
from infra.datasets.report import Tally
from infra.datasets.tables import EVENTS_SCHEMA, ITEMS_SCHEMA

DAT = Dialect("::", is_latin1=True)
RATING_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
POSITION_COLUMNS = ("user_id", "item_id", "position", "rating")
MOVIE_COLUMNS = ("item_id", "title", "genres")

POSITION_START_MS = 946_684_800_000
"""2000-01-01, the year in which most of MovieLens-1M was rated."""
POSITION_STEP_MS = 60_000
POSITION_NOTE = "times are made up: one minute a position, from 2000-01-01 for every user"


def read_ratings(path: Path, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Yield the events of a ratings.dat."""
    for chunk in delimited_chunks(path, DAT, RATING_COLUMNS, RATING_COLUMNS, has_header=False):
        checks = Checks(chunk, tally)
        yield _rated(checks, checks.seconds("timestamp"))


def read_positions(path: Path, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Yield the events of an events.parquet without timestamps."""
    require(path, parquet_columns(path), POSITION_COLUMNS)
    for chunk in parquet_chunks(path, POSITION_COLUMNS):
        checks = Checks(chunk, tally)
        offset_ms = pc.multiply(checks.positions("position"), POSITION_STEP_MS)
        yield _rated(checks, pc.add(offset_ms, POSITION_START_MS))


def _rated(checks: Checks, times_ms: pa.Array) -> pa.RecordBatch:
    ratings = checks.filled_numbers("rating")
    columns = {
        "user_id": checks.ids("user_id"),
        "item_id": checks.ids("item_id"),
        "event_time_ms": times_ms,
        "action": actions_of(ratings),
        "value": ratings,
    }
    return checks.batch(EVENTS_SCHEMA, columns)


def read_movies(path: Path, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Yield the items of a movies.dat; the title has the year in it already."""
    seen: set[str] = set()
    for chunk in delimited_chunks(path, DAT, MOVIE_COLUMNS, MOVIE_COLUMNS, has_header=False):
        yield _movies(chunk, tally, seen)


def _movies(chunk: Chunk, tally: Tally, seen: set[str]) -> pa.RecordBatch:
    checks = Checks(chunk, tally)
    titles = checks.filled("title")
    categories = split_categories(checks.text("genres"), "|")
    columns = {
        "title": titles,
        "text": item_texts(titles, categories),
        "categories": categories,
        "created_at_ms": pa.nulls(len(titles)),
        "item_id": checks.new_ids("item_id", seen),
    }
    return checks.batch(ITEMS_SCHEMA, columns)
