"""The one form of data in memory: two Arrow tables with fixed columns, and how they were read.

events: one row an interaction, in the order of the file.
items:  one row an item of the catalogue, in the order of the file; ids are unique.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from infra.datasets.report import ImportReport, Tally

EVENTS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("event_time_ms", pa.int64(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
    ]
)

ITEMS_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("categories", pa.list_(pa.string()), nullable=False),
        pa.field("created_at_ms", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Import:
    """A table and what became of every row of its file."""

    table: pa.Table
    report: ImportReport


@dataclass(frozen=True, slots=True)
class DatasetReport:
    events: ImportReport
    items: ImportReport
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know, e.g. that times are made up."""

    @property
    def n_bad(self) -> int:
        return self.events.n_bad + self.items.n_bad


@dataclass(frozen=True, slots=True)
class Dataset:
    """What every user of data gets, whatever the files looked like."""

    name: str
    events: pa.Table
    items: pa.Table
    report: DatasetReport


def gather(batches: Iterable[pa.RecordBatch], schema: pa.Schema, tally: Tally) -> Import:
    """Run a reader to its end and keep what it read."""
    table = pa.Table.from_batches(batches, schema)
    return Import(table, tally.report())
