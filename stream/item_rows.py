"""An Item as a row of a catalogue file, and back (infra/datasets/catalogue.py)."""

import math
from collections.abc import Mapping
from typing import Any

from infra.datasets.catalogue import Attribute, dump_attributes, parse_attributes
from protos.keys import item_text
from protos.rec.v1.items_pb2 import AttributeValue, Item


def row_of(item: Item) -> dict[str, object]:
    """Return an item as a row of CATALOGUE_SCHEMA. Its text is what a model reads of it."""
    return {
        "item_id": item.item_id,
        "title": item.title,
        "text": item_text(item.title, item.text),
        "categories": list(item.categories),
        "created_at_ms": item.created_at_ms or None,
        "available": item.available if item.HasField("available") else None,
        "popularity": item.popularity or None,
        "attributes": dump_attributes(_plain(item)),
    }


def _plain(item: Item) -> dict[str, Attribute]:
    plain: dict[str, Attribute] = {}
    for name, value in sorted(item.attributes.items()):
        kind = value.WhichOneof("kind")
        # JSON has neither infinity nor NaN; an attribute of no kind says nothing.
        if kind is not None and not (kind == "number" and not math.isfinite(value.number)):
            plain[name] = getattr(value, kind)
    return plain


def item_of(row: Mapping[str, Any]) -> Item:
    """Return the item of a row of CATALOGUE_SCHEMA, or of ITEMS_SCHEMA."""
    return Item(
        item_id=row["item_id"],
        title=row["title"],
        text=row["text"],
        categories=row["categories"],
        created_at_ms=row["created_at_ms"] or 0,
        available=row.get("available"),
        popularity=row.get("popularity") or 0.0,
        attributes={
            name: _attribute_value(value)
            for name, value in (parse_attributes(row.get("attributes")) or {}).items()
        },
    )


def _attribute_value(value: Attribute) -> AttributeValue:
    if isinstance(value, str):
        return AttributeValue(text=value)
    # In this order: a bool is a number to Python.
    return AttributeValue(flag=value) if isinstance(value, bool) else AttributeValue(number=value)
