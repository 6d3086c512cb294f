"""The one form of data in memory: two Arrow tables with fixed columns, and how they were read.

events: one row an interaction, in the order of the file.
items:  one row an item of the catalogue, in the order of the file; ids are unique.
"""

from dataclasses import dataclass

import pyarrow as pa

from infra.datasets.report import ImportReport

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
class DatasetReport:
    events: ImportReport
    items: ImportReport
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know, e.g. that times are made up."""

    @property
    def n_bad(self) -> int:
        return self.events.n_bad + self.items.n_bad

    def remarks(self) -> list[str]:
        """Return the notes, and how many rows are left out because they cannot be read."""
        left_out = [
            f"{one.n_bad:,} of {one.n_read:,} {what} cannot be read and are left out; "
            "`freshet data inspect` shows them"
            for what, one in (("events", self.events), ("items", self.items))
            if one.n_bad
        ]
        return [*self.notes, *left_out]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What every user of data gets, whatever the files looked like."""

    name: str
    events: pa.Table
    items: pa.Table
    report: DatasetReport
