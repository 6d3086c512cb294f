"""Random filters, as a tree and as the text that means it, over items that disagree about kinds."""

import json
import math
import random

from protos.rec.v1.items_pb2 import AttributeValue
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
    Or,
)

AWKWARD = (
    "", "red", "Red", "1", "true", 'say "hi"', "it's", "back\\slash", "new\nline", "tab\t", "nul\0",
    '"] or true or ["', "\\", '\\"', "ü", "u\u0308", "💥", "\ud7ff", "\uffff", "\u2028", "%",
    "a" * 300,
)  # fmt: skip
NUMBERS = (
    0.0, -0.0, 1.0, -1.0, 0.1, 1e16, 2.0**53, 2.0**63, 1e300, -1e300, 5e-324, 19.99, 123456789.123,
)  # fmt: skip
F32 = (0.0, -0.0, 0.10000000149011612, 1.0, 0.5, -2.0, 16777216.0, 3.4028234663852886e38)
TIMES_MS = (0, 1, 999, 1_700_000_000_000, 253_402_300_799_999)
NAMES = (
    "text",
    "number",
    "flag",
    "mixed",
    "release year",
    'qu"ote',
    "back\\",
    "ünï",
    "a/b~1",
    "in",
)
_OF_NAME = {
    "text": (Kind.TEXT,),
    "number": (Kind.NUMBER,),
    "flag": (Kind.FLAG,),
}
_KEYWORDS = ("and", "or", "not", "in", "true", "false")


def kinds_of(name: str) -> tuple[Kind, ...]:
    """The kinds that items carry under a name: the names that say no kind have all."""
    return _OF_NAME.get(name, tuple(Kind))


class AllDeclared:
    """A tenant whose items carry NAMES."""

    def kinds(self, name):
        return kinds_of(name) if name in NAMES else ()

    def names(self):
        return {name: kinds_of(name) for name in NAMES}

    def is_beyond(self, name):
        return False


def random_value(rng: random.Random, kind: Kind) -> str | float | bool:
    match kind:
        case Kind.TEXT:
            return rng.choice(AWKWARD)
        case Kind.NUMBER:
            return rng.choice(NUMBERS)
        case Kind.FLAG:
            return rng.random() < 0.5


def random_attributes(rng: random.Random) -> dict[str, AttributeValue]:
    """Some of NAMES, each as one of its kinds; now and then a number that is none."""
    attributes = {}
    for name in rng.sample(NAMES, rng.randrange(len(NAMES))):
        kind = rng.choice(kinds_of(name))
        value = random_value(rng, kind)
        if kind is Kind.NUMBER and rng.random() < 0.1:
            value = rng.choice((math.nan, math.inf, -math.inf))
        attributes[name] = AttributeValue(**{kind.value: value})
    return attributes


def random_tree(rng: random.Random, depth: int = 4) -> Filter:
    if depth == 0 or rng.random() < 0.3:
        return _leaf(rng)
    match rng.randrange(3):
        case 0:
            return Not(random_tree(rng, depth - 1))
        case 1:
            return And(_parts(rng, depth))
        case _:
            return Or(_parts(rng, depth))


def _parts(rng: random.Random, depth: int) -> tuple[Filter, ...]:
    return tuple(random_tree(rng, depth - 1) for _ in range(rng.randint(2, 4)))


def _leaf(rng: random.Random) -> Filter:
    match rng.randrange(8):
        case 0:
            return Available()
        case 1:
            return InCategories(tuple(rng.choices(AWKWARD, k=rng.randint(1, 3))))
        case 2:
            return _compared(rng, Column.CREATED_AT_MS, lambda: rng.choice(TIMES_MS))
        case 3:
            return _compared(rng, Column.POPULARITY, lambda: rng.choice(F32))
        case _:
            name = rng.choice(NAMES)
            kind = rng.choice(kinds_of(name))
            return _compared(rng, Attribute(name, kind), lambda: random_value(rng, kind))


def _compared(rng, field, value) -> Filter:
    if rng.random() < 0.3:
        return OneOf(field, tuple(value() for _ in range(rng.randint(2, 4))))
    is_flag = isinstance(field, Attribute) and field.kind is Kind.FLAG
    op = "==" if is_flag else rng.choice(("==", "<", "<=", ">", ">="))
    return Compare(field, op, value())


def text_of(rng: random.Random, node: Filter) -> str:
    """One of the texts that mean a tree."""
    match node:
        case Not(Compare(field, "==", value)) if rng.random() < 0.5:
            return f"{_field(field)} != {_value(rng, value)}"
        case Not(OneOf(field, values)) if rng.random() < 0.5:
            return f"{_field(field)} {_word(rng, 'not in')} {_list(rng, values)}"
        case Not(part):
            return f"{_word(rng, 'not')} ({text_of(rng, part)})"
        case And(parts):
            return _word(rng, " and ").join(f"({text_of(rng, part)})" for part in parts)
        case Or(parts):
            return _word(rng, " or ").join(f"({text_of(rng, part)})" for part in parts)
        case Available():
            return "available"
        case InCategories(names):
            return f"category {_word(rng, 'in')} {_list(rng, names)}"
        case OneOf(field, values):
            return f"{_field(field)} {_word(rng, 'in')} {_list(rng, values)}"
        case Compare(Attribute(_, Kind.FLAG) as field, "==", True) if rng.random() < 0.5:
            return _field(field)
        case Compare(field, op, value):
            return f"{_field(field)}{op}{_value(rng, value)}"


def _word(rng: random.Random, word: str) -> str:
    return rng.choice((word.lower(), word.upper(), word.title()))


def _field(field) -> str:
    if isinstance(field, Column):
        return field.value.removesuffix("_ms")
    is_plain = field.name.isidentifier() and field.name not in _KEYWORDS
    return field.name if is_plain else f"`{field.name}`"


def _list(rng: random.Random, values) -> str:
    return f"[{', '.join(_value(rng, value) for value in values)}]"


def _value(rng: random.Random, value) -> str:
    if isinstance(value, str) and rng.random() < 0.5:
        inside = json.dumps(value)[1:-1].replace('\\"', '"').replace("'", "\\'")
        return f"'{inside}'"
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)
