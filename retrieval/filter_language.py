r"""The language of FeedQuery.filter: text in, the tree of filters.py out.

    category in ["war", "drama"] AND price < 20 AND NOT sold_out
    created_at >= "2026-01-31" OR popularity > 0.5
    brand != 'O\'Neill' AND (size == "L" OR size == "XL") AND `release year` >= 1990

    filter      any of     filter OR filter   filter AND filter   NOT filter   (filter)
                           field op value     field in [value, ...]   field not in [value, ...]
                           field              of a flag: field == true
                NOT binds before AND, AND before OR; words in any case
    op          == != < <= > >=; categories and flags have no order
    value       a text in "" or '', with JSON's escapes and \'; a number: 20, -0.5, 1e6; true, false
    field       category       of the item's categories one is, or with != and not in: none is
                available      true of all that is ever shown
                created_at     a date or time in ISO form, in UTC where it names no zone, or
                               milliseconds; a date is its first instant; 0: the item has none
                popularity     a 32-bit float
                an attribute   of the tenant's items; in backquotes when it is not made of letters,
                               digits and _, or is called as a word or a field of this language

An attribute is compared with the kinds that items of the tenant carry under its name: another kind
is refused, not found nowhere. What a comparison means for an item without it: filters.py.

At most 4 KiB, 16 levels and 200 values: so Milvus can read every filter that gets through
(filters.py), and the candidates of a feed are judged in milliseconds.
"""

import difflib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
from lark import Token, Tree

from protos.errors import InvalidInput
from retrieval.filter_grammar import MAX_SHOWN, place, token_tree
from retrieval.filters import (
    And,
    Attribute,
    Available,
    Column,
    Compare,
    Filter,
    InCategories,
    Kind,
    Not,
    OneOf,
    Op,
    Or,
    Value,
)

MAX_BYTES = 4096
MAX_DEPTH = 16
MAX_VALUES = 200
MAX_LISTED = 20
"""Attributes that a refusal names."""

_RESERVED = ("and", "or", "not", "in", "true", "false")
_FIELDS = ("available", "category", "created_at", "popularity")
_POSITIVE: dict[str, Op] = {"==": "==", "!=": "==", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPED = re.compile(r"\\.|\"", re.DOTALL)
_MAX_MS = 253_402_300_799_999  # the end of the year 9999
_MAX_F32 = float(np.finfo(np.float32).max)
_EXAMPLES = {Kind.TEXT: 'a text, as in == "x"', Kind.NUMBER: "a number", Kind.FLAG: "true or false"}


class Declared(Protocol):
    """The attributes of a tenant's items (retrieval.attributes.TenantAttributes)."""

    def kinds(self, name: str) -> Collection[Kind]:
        """Return the kinds that items carry under this name; none for an unknown one."""

    def names(self) -> Mapping[str, Collection[Kind]]:
        """Return all that filters may name, for a refusal."""

    def is_beyond(self, name: str) -> bool:
        """Whether items carry it, but came with it when the tenant had too many others."""


def parse(text: str, declared: Declared) -> Filter:
    """Read a filter. Raises InvalidInput that names the place and what to do."""
    n_bytes = len(text.encode())
    if n_bytes > MAX_BYTES:
        raise InvalidInput(f"filter has {n_bytes:,} bytes; at most {MAX_BYTES:,}")
    return _Reading(declared).node(token_tree(text))


class _Reading:
    """One filter's tree of tokens, read with what its tenant declares."""

    def __init__(self, declared: Declared) -> None:
        self._declared, self._n_values = declared, 0

    def node(self, tree: Tree[Token], depth: int = 1) -> Filter:
        if depth > MAX_DEPTH:
            raise InvalidInput(f"filter nests deeper than {MAX_DEPTH} levels; write it flatter")
        if tree.data in ("either", "both", "negated"):
            parts = tuple(self.node(part, depth + 1) for part in _trees(tree))
            match tree.data:
                case "either":
                    return Or(parts)
                case "both":
                    return And(parts)
                case _:
                    return Not(parts[0])
        return self._comparison(tree)

    def _comparison(self, tree: Tree[Token]) -> Filter:
        (field, *values), op = _tokens(tree), "=="
        if tree.data == "is_set":
            values = [Token("TRUE", "true", start_pos=field.start_pos)]
        elif tree.data == "compared":
            op = str(tree.children[1])
        self._n_values += len(values)
        if self._n_values > MAX_VALUES:
            raise InvalidInput(f"filter has more than {MAX_VALUES} values; ask for fewer")
        positive = self._positive(field, _POSITIVE[op], values)
        return Not(positive) if op == "!=" or tree.data == "unlisted" else positive

    def _positive(self, field: Token, op: Op, values: Sequence[Token]) -> Filter:
        if field.type == "QUOTED_NAME":
            return self._of_attribute(field, field[1:-1], op, values)
        match str(field):
            case "category":
                _refuse_order(field, op)
                return InCategories(tuple(_text(field, value) for value in values))
            case "available":
                _refuse_order(field, op)
                return _availability([_flag(field, value) for value in values])
            case "created_at":
                return _compared(Column.CREATED_AT_MS, op, [_ms(value) for value in values])
            case "popularity":
                return _compared(Column.POPULARITY, op, [_f32(field, value) for value in values])
            case name:
                return self._of_attribute(field, name, op, values)

    def _of_attribute(self, field: Token, name: str, op: Op, values: Sequence[Token]) -> Filter:
        kinds = self._declared.kinds(name)
        if not kinds:
            raise InvalidInput(self._unknown(field, name))
        by_kind: dict[Kind, list[Value]] = {}
        for token in values:
            kind, value = _typed(token)
            if kind not in kinds:
                wanted = " or ".join(_EXAMPLES[kind] for kind in Kind if kind in kinds)
                raise _wrong_value(field, token, wanted)
            by_kind.setdefault(kind, []).append(value)
        if Kind.FLAG in by_kind:
            _refuse_order(field, op)
        parts = tuple(
            _compared(Attribute(name, kind), op, values) for kind, values in by_kind.items()
        )
        return parts[0] if len(parts) == 1 else Or(parts)

    def _unknown(self, field: Token, name: str) -> str:
        said = f"filter names {name[:80]!r} {place(field)}"
        if self._declared.is_beyond(name):
            return f"{said}, an attribute that came when the tenant had as many as filters may name"
        declared = self._declared.names()
        attributes = [
            f"{_written(known)} ({' or '.join(kind.value for kind in Kind if kind in kinds)})"
            for known, kinds in list(declared.items())[:MAX_LISTED]
        ]
        known = f"known are {', '.join((*_FIELDS, *attributes))}"
        if len(declared) > MAX_LISTED:
            known += f" and {len(declared) - MAX_LISTED} more attributes"
        near = difflib.get_close_matches(name, [*_FIELDS, *map(_written, declared)], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{said}, which no item of the tenant carries; {hint}{known}"


def _written(name: str) -> str:
    """Return an attribute's name as a filter has it."""
    is_plain = re.fullmatch(r"[^\W\d]\w*", name) and name not in _FIELDS
    return name if is_plain and name.lower() not in _RESERVED else f"`{name}`"


def _trees(tree: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in tree.children if isinstance(child, Tree)]


def _tokens(tree: Tree[Token]) -> list[Token]:
    """Return the token of the field, and those of the values."""
    return [token for child in _trees(tree) for token in child.children if isinstance(token, Token)]


def _compared(field: Attribute | Column, op: Op, values: Sequence[Value]) -> Filter:
    if len(values) == 1:
        return Compare(field, op, values[0])
    return OneOf(field, tuple(values))


def _availability(wanted: Sequence[bool]) -> Filter:
    if set(wanted) == {True, False}:
        return Or((Available(), Not(Available())))
    return Available() if wanted[0] else Not(Available())


def _refuse_order(field: Token, op: Op) -> None:
    if op != "==":
        raise InvalidInput(f"filter orders {field} {place(field)}; it takes ==, != and in alone")


def _typed(token: Token) -> tuple[Kind, Value]:
    match token.type:
        case "TEXT":
            return Kind.TEXT, _unquoted(token)
        case "NUMBER":
            return Kind.NUMBER, _number(token)
        case _:
            return Kind.FLAG, token.lower() == "true"


def _text(field: Token, token: Token) -> str:
    if token.type != "TEXT":
        raise _wrong_value(field, token, _EXAMPLES[Kind.TEXT])
    return _unquoted(token)


def _flag(field: Token, token: Token) -> bool:
    if token.type not in ("TRUE", "FALSE"):
        raise _wrong_value(field, token, _EXAMPLES[Kind.FLAG])
    return token.lower() == "true"


def _f32(field: Token, token: Token) -> float:
    if token.type != "NUMBER":
        raise _wrong_value(field, token, _EXAMPLES[Kind.NUMBER])
    number = _number(token)
    if abs(number) > _MAX_F32:
        raise _wrong_value(field, token, "a number that fits 32 bits")
    return float(np.float32(number))


def _number(token: Token) -> float:
    number = float(token)
    if not math.isfinite(number):
        raise InvalidInput(f"filter has a number {place(token)} that is too large for 64 bits")
    return number


def _ms(token: Token) -> int:
    wanted = 'created_at takes a date in ISO form, as in >= "2026-01-31", or whole milliseconds'
    try:
        if token.type == "TEXT":
            moment = datetime.fromisoformat(_unquoted(token))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - _EPOCH) // timedelta(milliseconds=1)
        if token.type == "NUMBER" and abs(_number(token)) <= _MAX_MS and float(token).is_integer():
            return int(float(token))
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(f"filter has {token[:MAX_SHOWN]} {place(token)}: {wanted}")


def _unquoted(token: Token) -> str:
    """Read a text as JSON does; raises InvalidInput for an escape that JSON lacks."""
    inside = _ESCAPED.sub(
        lambda found: {r"\'": "'", '"': r"\""}.get(found[0], found[0]), token[1:-1]
    )
    try:
        text = str(json.loads(f'"{inside}"', strict=False))
        text.encode()
    except (ValueError, UnicodeEncodeError) as error:
        raise InvalidInput(
            f"filter has a text {place(token)} with a wrong escape; escapes are JSON's, "
            r"write \\ for a backslash"
        ) from error
    return text


def _wrong_value(field: Token, token: Token, wanted: str) -> InvalidInput:
    if token.start_pos == field.start_pos:  # the value of is_set
        return InvalidInput(
            f"filter has {field[:MAX_SHOWN]} alone {place(field)}, as if it were a flag; "
            f"compare it with {wanted}"
        )
    return InvalidInput(
        f"filter compares {field[:MAX_SHOWN]} with {token[:MAX_SHOWN]} {place(token)}; "
        f"it takes {wanted}"
    )
