import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import InvalidInput
from retrieval.filters import (
    And,
    Attribute,
    Available,
    Column,
    Compare,
    InCategories,
    Kind,
    Not,
    NotItems,
    OneOf,
    Or,
    TenantIs,
    predicate,
    render,
)


@dataclass(frozen=True)
class Shown:
    tenant: str = "default"
    item_id: str = "1"
    categories: tuple[str, ...] = ("drama", "war")
    available: bool = True
    created_at_ms: int = 5
    popularity: float = 0.5
    attributes: dict = field(default_factory=lambda: {"price": 1.0, "brand": "Acme", "sale": True})


def test_a_filter_reads_like_a_sentence():
    node = And((TenantIs("default"), Available(), InCategories(("drama",)), NotItems(("7", "8"))))

    assert render(node) == (
        '((tenant == "default") and (available == true)) and '
        '((array_contains_any(categories, ["drama"])) and (item_id not in ["7", "8"]))'
    )


@pytest.mark.parametrize("text", ['x"] or true or ["', "back\\slash", "line\nbreak", "it's", "ü💥"])
def test_what_a_caller_writes_stays_inside_its_literal(text):
    rendered = render(InCategories((text,)))

    literal = rendered.removeprefix("array_contains_any(categories, [").removesuffix("])")
    assert json.loads(literal) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_is_one_literal(text):
    rendered = render(TenantIs(text))

    value, end = json.JSONDecoder().raw_decode(rendered, len("tenant == "))
    assert (value, end) == (text, len(rendered))


def test_a_filter_over_no_values_is_refused():
    with pytest.raises(InvalidInput, match="leave it out"):
        render(InCategories(()))


def test_a_number_that_is_none_is_never_rendered():
    with pytest.raises(ValueError, match="not JSON compliant"):
        render(Compare(PRICE, "<", float("nan")))


def test_an_item_passes_when_every_part_lets_it():
    node = And((TenantIs("default"), Available(), InCategories(("war", "horror"))))

    assert predicate(node)(Shown())
    assert not predicate(node)(replace(Shown(), tenant="other"))
    assert not predicate(node)(replace(Shown(), available=False))
    assert not predicate(node)(replace(Shown(), categories=("comedy",)))
    assert not predicate(NotItems(("1",)))(Shown())


PRICE, BRAND = Attribute("price", Kind.NUMBER), Attribute("brand", Kind.TEXT)
SALE, AS_NUMBER = Attribute("sale", Kind.FLAG), Attribute("sale", Kind.NUMBER)


@pytest.mark.parametrize(
    ("node", "is_let_through"),
    [
        (Compare(PRICE, "<=", 1.0), True),
        (Compare(PRICE, "<", 1.0), False),
        (Compare(BRAND, "==", "acme"), False),
        (Compare(BRAND, ">", "ACME"), True),
        (Compare(SALE, "==", True), True),
        (Compare(AS_NUMBER, "==", 1.0), False),
        (OneOf(AS_NUMBER, (0.0, 1.0)), False),
        (OneOf(PRICE, (0.0, 1.0)), True),
        (Compare(Column.CREATED_AT_MS, ">=", 5), True),
        (OneOf(Column.CREATED_AT_MS, (4, 6)), False),
        (Compare(Column.POPULARITY, ">", 0.5), False),
        (OneOf(Column.POPULARITY, (0.5,)), True),
        (Or((Compare(PRICE, ">", 7.0), Compare(SALE, "==", True))), True),
        (Or((Compare(PRICE, ">", 7.0), Compare(SALE, "==", False))), False),
        (Not(Compare(PRICE, "==", 1.0)), False),
    ],
)
def test_a_comparison_looks_at_the_value_of_its_own_kind(node, is_let_through):
    assert predicate(node)(Shown()) == is_let_through


def test_an_item_without_the_attribute_passes_only_where_that_is_negated():
    bare = replace(Shown(), attributes={})

    for node in (Compare(PRICE, "==", 1.0), Compare(PRICE, "<", 1.0), OneOf(PRICE, (1.0,))):
        assert not predicate(node)(bare)
        assert predicate(Not(node))(bare)


def test_filters_of_different_kinds_are_different():
    """Searches that share a filter share a call, and True == 1 in Python."""
    assert Compare(AS_NUMBER, "==", 1.0) != Compare(SALE, "==", True)
    assert hash(OneOf(PRICE, (1.0,))) == hash(OneOf(PRICE, (1.0,)))


def test_parts_are_joined_in_pairs_the_shallowest_first():
    a, b = Compare(PRICE, "==", 1.0), Compare(PRICE, ">", 2.5)

    assert render(Or((Not(a), a, b))) == (
        '(not (attributes["price"] == 1.0)) or '
        '((attributes["price"] == 1.0) or (attributes["price"] > 2.5))'
    )
