"""Which items may be found: a typed tree, as Milvus reads it and as Python does.

Milvus 2.3.5 has no filter templates, so a filter becomes text, and every value passes through
`_literal`, which escapes it: text of a caller is never pasted. `predicate` is the same meaning in
Python: the judge of what did not come from a search, or came from one that was a moment behind.

The language of FeedQuery.filter (AND / OR / NOT over declared attributes) parses into this same
tree; And, Any-of and Not are all that a feed needs without it.
"""

import json
from collections.abc import Callable
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


def predicate(node: Filter) -> Callable[[Filterable], bool]:
    """Return the filter as a function, made once a request: it looks at hundreds of items."""
    match node:
        case TenantIs(tenant):
            return lambda item: item.tenant == tenant
        case Available():
            return lambda item: item.available
        case InCategories(categories):
            wanted = frozenset(categories)
            return lambda item: not wanted.isdisjoint(item.categories)
        case NotItems(item_ids):
            unwanted = frozenset(item_ids)
            return lambda item: item.item_id not in unwanted
        case And(parts):
            return _conjunction([predicate(part) for part in parts])


def _conjunction(parts: list[Callable[[Filterable], bool]]) -> Callable[[Filterable], bool]:
    def is_let_through(item: Filterable) -> bool:
        # A loop, not all(): half the time, in the innermost loop of a request.
        for part in parts:  # noqa: SIM110
            if not part(item):
                return False
        return True

    return is_let_through


def _literals(values: tuple[str, ...]) -> str:
    if not values:
        raise InvalidInput("a filter over no values finds nothing; leave it out")
    return f"[{', '.join(_literal(value) for value in values)}]"


def _literal(value: str) -> str:
    """Quote and escape. Milvus reads Go string literals: JSON's escapes are among them, except
    surrogate pairs, so what is not ASCII stays as it is."""
    return json.dumps(value, ensure_ascii=False)
