"""Which items may be found: a typed tree, as Milvus reads it and as Python does.

Milvus 2.3.5 has no filter templates, so a filter becomes text, and every value passes through
`_literal`, which escapes it: text of a caller is never pasted. `predicate` is the same meaning in
Python: the judge of what did not come from a search, or came from one that was a moment behind.
The language of FeedQuery.filter (filter_language.py) parses into this tree.

What both sides mean, checked against a real Milvus with random trees:

- A comparison is true or false, never unknown. Of an item that lacks the attribute, or carries it
  as another kind (the flag true is not the number 1), it is false, so Not of it is true: "not
  equal" lets through whatever does not have that value.
- Text is compared by code points, case sensitive. Numbers are 64-bit floats, 0.0 equals -0.0;
  popularity is a 32-bit float, and what it is compared with is rounded to one before.
- A number that is not finite is no attribute: Milvus stores null for it.
- Of an item's categories those count that Milvus stores (catalogue.py).

Milvus reads an expression as nested messages, at most 100 deep, and a chain of n parts nests n
deep: 64 alternatives are too many. So parts are joined in pairs, the shallowest first, which nests
a tree of depth d with n leaves about d + log2 n deep.
"""

import heapq
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import count
from typing import Literal, Protocol, TypeAlias

from protos.errors import InvalidInput

Value: TypeAlias = str | float | bool
Op: TypeAlias = Literal["==", "<", "<=", ">", ">="]


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
    @property
    def created_at_ms(self) -> int: ...
    @property
    def popularity(self) -> float: ...
    @property
    def attributes(self) -> Mapping[str, Value]: ...


class Kind(Enum):
    """What an attribute's value may be, by its name in AttributeValue."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"


class Column(Enum):
    """A number that every item has, by its name in Milvus."""

    CREATED_AT_MS = "created_at_ms"
    POPULARITY = "popularity"


@dataclass(frozen=True, slots=True)
class Attribute:
    """What some items carry."""

    name: str
    kind: Kind


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
class Compare:
    """The value is of the field's kind: int for CREATED_AT_MS, float for POPULARITY."""

    field: Attribute | Column
    op: Op
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """Equal to at least one of them; their kinds as in Compare."""

    field: Attribute | Column
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Filter"


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple["Filter", ...]


Filter: TypeAlias = (
    TenantIs | Available | InCategories | NotItems | Compare | OneOf | Not | And | Or
)
Predicate: TypeAlias = Callable[[Filterable], bool]

_OPERATORS: dict[Op, Callable[[Value, Value], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@lru_cache(maxsize=256)
def render(node: Filter) -> str:
    """Return the filter as a Milvus 2.3 boolean expression. A site asks with few filters, again and
    again."""
    return _rendered(node)[1]


def _rendered(node: Filter) -> tuple[int, str]:
    """Return how deep the expression nests, and its text."""
    match node:
        case TenantIs(tenant):
            return 0, f"tenant == {_literal(tenant)}"
        case Available():
            return 0, "available == true"
        case InCategories(categories):
            return 0, f"array_contains_any(categories, {_literals(categories)})"
        case NotItems(item_ids):
            return 0, f"item_id not in {_literals(item_ids)}"
        case Compare(field, op, value):
            return 0, f"{_path(field)} {op} {_literal(value)}"
        case OneOf(field, values):
            return 0, f"{_path(field)} in {_literals(values)}"
        case Not(part):
            depth, text = _rendered(part)
            return depth + 1, f"not ({text})"
        case And(parts):
            return _joined(parts, "and")
        case Or(parts):
            return _joined(parts, "or")


def _joined(parts: Sequence[Filter], word: str) -> tuple[int, str]:
    places = count()
    heap = [(depth, next(places), text) for depth, text in map(_rendered, parts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (_, _, left), (depth, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (depth + 1, next(places), f"({left}) {word} ({right})"))
    depth, _, text = heap[0]
    return depth, text


@lru_cache(maxsize=256)
def predicate(node: Filter) -> Predicate:
    """Return the filter as a function."""
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
        case Compare(field, op, value):
            return _comparison(field, op, value)
        case OneOf(field, values):
            return _membership(field, values)
        case Not(part):
            is_part = predicate(part)
            return lambda item: not is_part(item)
        case And(parts):
            return _conjunction([predicate(part) for part in _flat(parts)])
        case Or(parts):
            return _disjunction([predicate(part) for part in parts])


def _flat(parts: Iterable[Filter]) -> Iterator[Filter]:
    """Give the parts of a conjunction, those of conjunctions within it instead of them."""
    for part in parts:
        if isinstance(part, And):
            yield from _flat(part.parts)
        else:
            yield part


def _comparison(field: Attribute | Column, op: Op, value: Value) -> Predicate:
    holds = _OPERATORS[op]
    if field is Column.CREATED_AT_MS:
        return lambda item: holds(item.created_at_ms, value)
    if isinstance(field, Column):
        return lambda item: holds(item.popularity, value)
    name, kind = field.name, type(value)

    def is_let_through(item: Filterable) -> bool:
        found = item.attributes.get(name)
        return type(found) is kind and holds(found, value)

    return is_let_through


def _membership(field: Attribute | Column, values: tuple[Value, ...]) -> Predicate:
    wanted = frozenset(values)
    if field is Column.CREATED_AT_MS:
        return lambda item: item.created_at_ms in wanted
    if isinstance(field, Column):
        return lambda item: item.popularity in wanted
    name, kind = field.name, type(values[0])

    def is_let_through(item: Filterable) -> bool:
        found = item.attributes.get(name)
        return type(found) is kind and found in wanted

    return is_let_through


def _conjunction(parts: list[Predicate]) -> Predicate:
    def is_let_through(item: Filterable) -> bool:
        # A loop, not all(): half the time, in the innermost loop of a request.
        for part in parts:  # noqa: SIM110
            if not part(item):
                return False
        return True

    return is_let_through


def _disjunction(parts: list[Predicate]) -> Predicate:
    def is_let_through(item: Filterable) -> bool:
        for part in parts:  # noqa: SIM110
            if part(item):
                return True
        return False

    return is_let_through


def _path(field: Attribute | Column) -> str:
    if isinstance(field, Column):
        return field.value
    # Milvus takes what stands between the quotes as it is written, escapes and all, and looks for
    # a name that is written alike in its JSON (attributes.py says which names that excludes).
    return f"attributes[{_literal(field.name)}]"


def _literals(values: Sequence[Value]) -> str:
    if not values:
        raise InvalidInput("a filter over no values finds nothing; leave it out")
    return f"[{', '.join(_literal(value) for value in values)}]"


def _literal(value: Value) -> str:
    """Quote and escape. Milvus reads Go string literals: JSON's escapes are among them, except
    surrogate pairs, so what is not ASCII stays as it is. A float always has a point or an exponent:
    Milvus allows no mixed lists."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
