"""UCI's Online Retail (Chen 2015, CC BY 4.0): CSV files, one a day, read in the order of names.

A row with a customer and a positive quantity is a `purchase`; the others (no CustomerID: a quarter;
cancellations) are filtered by rule and counted as such. The value is the unit price. Times are the
shop's clock, taken as UTC. There is no catalogue: an item is a StockCode, and its text is the
description that its kept rows use most often.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.datasets.checks import Checks
from infra.datasets.chunks import Chunk
from infra.datasets.delimited import CSV, delimited_chunks, read_header, require
from infra.datasets.report import Tally
from infra.datasets.tables import EVENTS_SCHEMA, ITEMS_SCHEMA

RETAIL_COLUMNS = (
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
)
_PURCHASES_SCHEMA = EVENTS_SCHEMA.append(pa.field("description", pa.string()))

NO_CUSTOMER = "no CustomerID"
NOT_BOUGHT = "Quantity <= 0"


class Catalogue:
    """The items that purchases speak of, each with how often it was called what."""

    def __init__(self) -> None:
        self._names: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, item_ids: pa.Array, descriptions: pa.Array) -> None:
        names = pc.utf8_trim_whitespace(descriptions.fill_null(""))
        pairs = pa.table({"item_id": item_ids, "name": names}).group_by(
            ["item_id", "name"], use_threads=False
        )
        for pair in pairs.aggregate([([], "count_all")]).to_pylist():
            self._names[pair["item_id"]][pair["name"]] += pair["count_all"]

    def items(self) -> pa.Table:
        """Return the items in the order of their first purchase."""
        item_ids = list(self._names)
        titles = [_title(item_id, self._names[item_id]) for item_id in item_ids]
        columns = {
            "item_id": item_ids,
            "title": titles,
            "text": titles,
            "categories": [[] for _ in item_ids],
            "created_at_ms": [None for _ in item_ids],
        }
        return pa.table(columns, schema=ITEMS_SCHEMA)


def _title(item_id: str, names: Counter[str]) -> str:
    named = [(name, n) for name, n in names.most_common() if name]
    return named[0][0] if named else item_id


def read_purchases(
    paths: Sequence[Path], tally: Tally, catalogue: Catalogue
) -> Iterator[pa.RecordBatch]:
    """Yield the events of the files, and fill the catalogue on the way."""
    for path in paths:
        names = read_header(path, CSV)
        require(path, names, RETAIL_COLUMNS)
        for chunk in delimited_chunks(path, CSV, names, RETAIL_COLUMNS, has_header=True):
            purchases = _purchases(chunk, tally)
            catalogue.add(purchases["item_id"], purchases["description"])
            yield purchases.drop_columns(["description"])


def _purchases(chunk: Chunk, tally: Tally) -> pa.RecordBatch:
    # The files went through a tool that made floats of the customers: 17850.0
    customers = pc.replace_substring_regex(chunk.columns["CustomerID"], r"\.0$", "")
    checks = Checks(replace(chunk, columns={**chunk.columns, "CustomerID": customers}), tally)
    quantities = checks.filled_numbers("Quantity")
    checks.filter(pc.equal(pc.binary_length(customers), 0), NO_CUSTOMER)
    checks.filter(pc.less_equal(quantities, 0.0), NOT_BOUGHT)
    columns = {
        "user_id": checks.ids("CustomerID"),
        "item_id": checks.ids("StockCode"),
        "event_time_ms": checks.iso_times("InvoiceDate"),
        "action": pa.repeat("purchase", len(customers)),
        "value": checks.numbers("UnitPrice"),
        "description": checks.text("Description"),
    }
    return checks.batch(_PURCHASES_SCHEMA, columns)
