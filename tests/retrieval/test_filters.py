import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import InvalidInput
from retrieval.filters import And, Available, InCategories, NotItems, TenantIs, predicate, render


@dataclass(frozen=True)
class Shown:
    tenant: str = "default"
    item_id: str = "1"
    categories: tuple[str, ...] = ("drama", "war")
    available: bool = True


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


def test_an_item_passes_when_every_part_lets_it():
    node = And((TenantIs("default"), Available(), InCategories(("war", "horror"))))

    assert predicate(node)(Shown())
    assert not predicate(node)(replace(Shown(), tenant="other"))
    assert not predicate(node)(replace(Shown(), available=False))
    assert not predicate(node)(replace(Shown(), categories=("comedy",)))
    assert not predicate(NotItems(("1",)))(Shown())
