"""A whole catalogue as a file: the general form of items, and what a shop knows beyond it.

Beside the columns of infra/datasets/general.py a file may have, all optional:

    available        true or false; empty means available
    popularity       a number, any scale
    attributes       a JSON object of texts, numbers and flags; in JSON Lines the object itself
    text.NAME        one attribute that is a text; number.NAME and flag.NAME likewise (not in JSON
                     Lines)

An item needs a title or a text.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from infra.datasets.checks import Checks, is_empty
from infra.datasets.delimited import require
from infra.datasets.general import (
    ITEM_COLUMNS,
    SUFFIXES,
    file_chunks,
    file_columns,
    item_columns,
)
from infra.datasets.report import Tally
from infra.datasets.tables import ITEMS_SCHEMA
from protos.errors import InvalidInput

CATALOGUE_SCHEMA = pa.schema(
    [
        *ITEMS_SCHEMA,
        pa.field("available", pa.bool_()),
        pa.field("popularity", pa.float64()),
        pa.field("attributes", pa.string()),
    ]
)
"""ITEMS_SCHEMA and the rest of an Item; attributes are a JSON object, null when there are none."""

KINDS = ("text.", "number.", "flag.")
_COLUMNS = (*ITEM_COLUMNS, "available", "popularity", "attributes")

Attribute = str | float | bool


def find_catalogue(path: Path) -> Path:
    """Return the file of items that a path means: itself, or the one items.* in a folder.

    Raises:
        InvalidInput: there is none, or more than one.
    """
    if path.is_file():
        return path
    names = ", ".join(f"items{suffix}" for suffix in SUFFIXES)
    if not path.is_dir():
        raise InvalidInput(f"there is no {path}; give a file, or a folder with one of {names}")
    found = [one for suffix in SUFFIXES if (one := path / f"items{suffix}").is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(f"{path} holds {' and '.join(p.name for p in found)}; name one of them")
    raise InvalidInput(
        f"{path} has none of {names}; a data set of another form goes in by "
        "`freshet replay DATA --items-only`"
    )


def read_catalogue(path: Path, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Yield the items of a file as CATALOGUE_SCHEMA; each id once."""
    names = file_columns(path)
    typed: list[str] = []
    if names is not None:
        require(path, names, ("item_id",))
        if "text" not in names:
            require(path, names, ("title",))
        typed = list(dict.fromkeys(name for name in names if name.startswith(KINDS)))
        require(path, names, typed)  # none of them twice
    seen: set[str] = set()
    for chunk in file_chunks(path, names, (*_COLUMNS, *typed)):
        yield _batch(Checks(chunk, tally), typed, seen)


def _batch(checks: Checks, typed: Sequence[str], seen: set[str]) -> pa.RecordBatch:
    titles = pc.fill_null(checks.text("title"), "")
    nothing = pc.and_(is_empty(titles), is_empty(checks.text("text")))
    checks.reject(nothing, "title and text are empty: a model could read nothing of it")
    columns = item_columns(checks, titles) | {
        "available": checks.flags("available"),
        "popularity": checks.numbers("popularity"),
        "attributes": _attributes(checks, typed),
    }
    columns["item_id"] = checks.new_ids("item_id", seen)
    return checks.batch(CATALOGUE_SCHEMA, columns)


def _attributes(checks: Checks, typed: Sequence[str]) -> pa.Array:
    cells = checks.text("attributes")
    parsed = [parse_attributes(cell) for cell in cells.to_pylist()]
    checks.reject(
        pa.array([one is None for one in parsed]),
        "attributes is not a JSON object of texts, finite numbers, true and false",
    )
    rows = [dict(one or {}) for one in parsed]
    for column in typed:
        kind, _, name = column.partition(".")
        read = {"text": checks.text, "number": checks.numbers, "flag": checks.flags}[kind]
        values = read(column).to_pylist()
        given = [value is not None and value != "" for value in values]
        twice = [has and name in row for has, row in zip(given, rows, strict=True)]
        checks.reject(pa.array(twice), f"attribute {name} is given twice")
        for row, value, has in zip(rows, values, given, strict=True):
            if has:
                row[name] = value
    return pa.array([dump_attributes(row) for row in rows], pa.string())


def dump_attributes(attributes: dict[str, Attribute]) -> str | None:
    """Return attributes as a cell of CATALOGUE_SCHEMA."""
    return json.dumps(attributes, ensure_ascii=False) if attributes else None


def parse_attributes(cell: str | None) -> dict[str, Attribute] | None:
    """Read such a cell; numbers become floats. None when it is not one."""
    if not cell:
        return {}
    try:
        found = json.loads(cell)
        json.dumps(found, ensure_ascii=False).encode()  # an escaped half of a surrogate pair
        return {name: _attribute(value) for name, value in found.items()}
    except (ValueError, AttributeError, OverflowError, RecursionError):
        return None


def _attribute(value: object) -> Attribute:
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise ValueError("neither a text, nor a finite number, nor a flag")
