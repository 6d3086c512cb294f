"""Which items may be found: a typed tree, checked here against an item, rendered here for Milvus.

Milvus 2.3.5 has no filter templates, so a filter becomes text, and every value passes through
`_literal`, which escapes it: text of a caller is never pasted. `matches` is the same meaning in
Python, the slow reference of `render` and the judge of what did not come from a search.

The language of FeedQuery.filter (AND / OR / NOT over declared attributes) parses into this same
tree; And, Any-of and Not are all that a feed needs without it.
"""

import json
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from protos.errors import InvalidInput


class Filterable(Protocol):
    """What a filter looks at."""

    @property
    def tenant(self) -> str: ...
    @property
    def item_id(self) -> str: ...
    @property
    def categories(self) -> tuple[str, ...]: ...
    @property
    def available(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class TenantIs:
    tenant: str


@dataclass(frozen=True, slots=True)
class Available:
    """Only items that can be had."""


@dataclass(frozen=True, slots=True)
class InCategories:
    """Items in at least one of them."""

    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotItems:
    """Not these. For a few ids; many are cheaper to drop from the result."""

    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Filter", ...]


Filter: TypeAlias = TenantIs | Available | InCategories | NotItems | And


def render(node: Filter) -> str:
    """Return the filter as a Milvus 2.3 boolean expression."""
    match node:
        case TenantIs(tenant):
            return f"tenant == {_literal(tenant)}"
        case Available():
            return "available == true"
        case InCategories(categories):
            return f"array_contains_any(categories, {_literals(categories)})"
        case NotItems(item_ids):
            return f"item_id not in {_literals(item_ids)}"
        case And(parts):
            return " and ".join(f"({render(part)})" for part in parts)


def matches(node: Filter, item: Filterable) -> bool:
    """Return whether the filter lets the item through."""
    match node:
        case TenantIs(tenant):
            return item.tenant == tenant
        case Available():
            return item.available
        case InCategories(categories):
            return not set(categories).isdisjoint(item.categories)
        case NotItems(item_ids):
            return item.item_id not in item_ids
        case And(parts):
            return all(matches(part, item) for part in parts)


def _literals(values: tuple[str, ...]) -> str:
    if not values:
        raise InvalidInput("a filter over no values finds nothing; leave it out")
    return f"[{', '.join(_literal(value) for value in values)}]"


def _literal(value: str) -> str:
    """Quote and escape. Milvus reads Go string literals: JSON's escapes are among them, except
    surrogate pairs, so what is not ASCII stays as it is."""
    return json.dumps(value, ensure_ascii=False)
