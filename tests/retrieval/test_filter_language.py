"""Filters as callers write them: what they mean, and how they are refused."""

import json
import re
import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protos.errors import InvalidInput
from retrieval.filter_language import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse
from retrieval.filters import (
    And,
    Attribute,
    Available,
    Column,
    Compare,
    InCategories,
    Kind,
    Not,
    OneOf,
    Or,
    render,
)
from tests.retrieval.filter_trees import AllDeclared, random_tree, text_of


class Shop:
    """What a shop's items carry."""

    attributes = {  # noqa: RUF012
        "price": (Kind.NUMBER,),
        "brand": (Kind.TEXT,),
        "sold_out": (Kind.FLAG,),
        "size": (Kind.TEXT, Kind.NUMBER),
        "release year": (Kind.NUMBER,),
        "android": (Kind.FLAG,),
        "category": (Kind.NUMBER,),
        "not": (Kind.NUMBER,),
    }

    def kinds(self, name):
        return self.attributes.get(name, ())

    def names(self):
        return self.attributes

    def is_beyond(self, name):
        return name == "one_too_many"


PRICE, BRAND = Attribute("price", Kind.NUMBER), Attribute("brand", Kind.TEXT)
SOLD_OUT = Compare(Attribute("sold_out", Kind.FLAG), "==", True)
CHEAP, DEAR = Compare(PRICE, "<", 20.0), Compare(PRICE, ">", 100.0)


def refusal(text, declared=None):
    with pytest.raises(InvalidInput) as caught:
        parse(text, declared or Shop())
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('category == "war"', InCategories(("war",))),
        ("category in ['war', \"drama\"]", InCategories(("war", "drama"))),
        ('category != "war"', Not(InCategories(("war",)))),
        ('category NOT IN ["war"]', Not(InCategories(("war",)))),
        ("available", Available()),
        ("available == false", Not(Available())),
        ("price<20", CHEAP),
        ("price < +2.0e1", CHEAP),
        ("price == -.5", Compare(PRICE, "==", -0.5)),
        ("price in [1, 2.5]", OneOf(PRICE, (1.0, 2.5))),
        (r"brand != 'O\'Neill'", Not(Compare(BRAND, "==", "O'Neill"))),
        (r'brand == "\u00fc\ud83d\udca5\n\\"', Compare(BRAND, "==", "ü💥\n\\")),
        ("sold_out", SOLD_OUT),
        ("not sold_out", Not(SOLD_OUT)),
        ("sold_out == FALSE", Compare(Attribute("sold_out", Kind.FLAG), "==", False)),
        ("`release year` >= 1990", Compare(Attribute("release year", Kind.NUMBER), ">=", 1990.0)),
        ("android", Compare(Attribute("android", Kind.FLAG), "==", True)),
        ("`category` == 7", Compare(Attribute("category", Kind.NUMBER), "==", 7.0)),
        ("`not` == 7", Compare(Attribute("not", Kind.NUMBER), "==", 7.0)),
        ("popularity > 0.1", Compare(Column.POPULARITY, ">", 0.10000000149011612)),
    ],
)
def test_a_comparison_means(text, tree):
    assert parse(text, Shop()) == tree


def test_not_binds_before_and_and_before_or():
    assert parse("price < 20 oR NOT sold_out aNd price > 100", Shop()) == Or(
        (CHEAP, And((Not(SOLD_OUT), DEAR)))
    )
    assert parse("(price < 20 or not sold_out) and price > 100", Shop()) == And(
        (Or((CHEAP, Not(SOLD_OUT))), DEAR)
    )


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ('"1970-01-02"', 86_400_000),
        ('"1970-01-01T00:00:01.5"', 1_500),
        ('"1970-01-01T01:00:00+01:00"', 0),
        ('"1970-01-01T00:00:02Z"', 2_000),
        ("1700000000000", 1_700_000_000_000),
        ("1.7e12", 1_700_000_000_000),
    ],
)
def test_a_time_is_an_iso_date_or_milliseconds(text, ms):
    assert parse(f"created_at >= {text}", Shop()) == Compare(Column.CREATED_AT_MS, ">=", ms)


def test_values_of_two_kinds_are_two_lists():
    text, number = Attribute("size", Kind.TEXT), Attribute("size", Kind.NUMBER)

    assert parse('size in ["L", 38, "XL"]', Shop()) == Or(
        (OneOf(text, ("L", "XL")), Compare(number, "==", 38.0))
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("price = 3", "at character 7: expected one of == != < <= > >="),
        ("price < ", "ends too early, after character 8: expected a text in quotes, a number"),
        ("price < 3 price", "at character 11: expected OR, AND or the end; found 'price'"),
        ("(price < 3", 'expected ")"'),
        ("price < 3)", "at character 10: expected the end; found ')'"),
        ("price in []", "at character 11: expected a text in quotes, a number"),
        ("price < 3 && sold_out", "at character 11: expected OR, AND or the end; found '&'"),
        ("price < 3abc", "at character 9: expected a text in quotes, a number"),
        ("price < nan", "found 'nan'"),
        ("in == 3", "at character 1: expected a field, NOT or \"(\"; found 'in'"),
        ("1 < price", "at character 1: expected a field"),
        ('brand == "x', "at character 10: expected a text in quotes"),
        ('brand == "x', "the text that begins here is empty or has no end"),
        ("`price < 3", "the name that begins here is empty or has no end"),
        ("   ", "ends too early"),
        (r'brand == "\x"', "a text at character 10 with a wrong escape"),
        (r'brand == "\ud800"', "a text at character 10 with a wrong escape"),
    ],
)
def test_what_does_not_parse_is_refused_with_the_place_and_what_was_expected(text, words):
    assert words in refusal(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("brand < 3", 'compares brand with 3 at character 9; it takes a text, as in == "x"'),
        ('price == "x"', 'compares price with "x" at character 10; it takes a number'),
        ("size == true", 'takes a text, as in == "x" or a number'),
        ("price", "has price alone at character 1, as if it were a flag; compare it with a number"),
        ("sold_out < true", "orders sold_out at character 1; it takes ==, != and in alone"),
        ('category > "war"', "orders category"),
        ("category == 3", "it takes a text"),
        ("available == 1", "it takes true or false"),
        ("available > true", "orders available"),
        ('popularity > "x"', "it takes a number"),
        ("popularity > 1e39", "a number that fits 32 bits"),
        ("price > 1e999", "a number at character 9 that is too large"),
        (f"price in [1, {'9' * 400}]", "a number at character 14 that is too large"),
        ('created_at > "yesterday"', "takes a date in ISO form"),
        ("created_at > 1.5", "whole milliseconds"),
        ("created_at > 1e300", "whole milliseconds"),
        ("created_at > true", "whole milliseconds"),
        (f"created_at > {'9' * 4000}", "too large"),
        ('created_at > "9999-99-99"', "takes a date in ISO form"),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_with_the_right_one(text, words):
    assert words in refusal(text)


def test_an_unknown_field_is_refused_with_the_known_ones():
    message = refusal("sold_out AND pric < 3")

    assert "names 'pric' at character 14" in message
    assert "did you mean price?" in message
    assert "size (text or number), `release year` (number)" in message
    assert "did you mean created_at?" in refusal("created_after > 3")


def test_a_refusal_lists_a_bounded_number_of_attributes():
    class Many(Shop):
        attributes = {f"{'n' * 120}{row}": (Kind.TEXT,) for row in range(256)}  # noqa: RUF012

    message = refusal("z == 1", Many())

    assert message.endswith("and 236 more attributes")
    assert len(message) < 20 * 150


def test_an_attribute_beyond_what_filters_may_name_is_refused_as_one():
    assert "as many as filters may name" in refusal("one_too_many == 1")


def test_a_filter_is_bounded_in_bytes_levels_and_values():
    assert f"at most {MAX_BYTES:,}" in refusal("sold_out" + " " * MAX_BYTES)
    assert f"at most {MAX_BYTES:,}" in refusal(f'brand == "{"ü" * (MAX_BYTES // 2)}"')

    deepest = "NOT " * (MAX_DEPTH - 1) + "sold_out"
    assert parse(deepest, Shop())
    assert f"deeper than {MAX_DEPTH} levels" in refusal(f"NOT {deepest}")

    widest = " OR ".join(["price<1"] * MAX_VALUES)
    assert parse(widest, Shop())
    assert f"more than {MAX_VALUES} values" in refusal(f"{widest} OR sold_out")
    assert f"more than {MAX_VALUES} values" in refusal(f"price in [{'1,' * MAX_VALUES}1]")


@pytest.mark.parametrize(
    "text", ["(" * 4096, "NOT " * 1000 + "sold_out", "((" * 900 + "`", "[" * 4096]
)
def test_a_filter_made_to_nest_is_refused_at_once(text):
    start = time.perf_counter()

    refusal(text)

    assert time.perf_counter() - start < 0.5


@given(st.randoms(use_true_random=False))
def test_every_tree_is_what_its_text_parses_to(rng):
    tree = random_tree(rng)

    assert parse(text_of(rng, tree), AllDeclared()) == tree


def texts_of(node):
    """All texts that a filter's tree holds."""
    match node:
        case Not(part):
            return texts_of(part)
        case And(parts) | Or(parts):
            return [text for part in parts for text in texts_of(part)]
        case InCategories(names):
            return list(names)
        case Compare(field, _, value):
            return [*names_of(field), *([value] if isinstance(value, str) else [])]
        case OneOf(field, values):
            return [*names_of(field), *(value for value in values if isinstance(value, str))]
    return []


def names_of(field):
    return [field.name] if isinstance(field, Attribute) else []


@given(st.randoms(use_true_random=False))
def test_what_milvus_gets_holds_the_same_texts_and_beside_them_only_words_of_ours(rng):
    tree = random_tree(rng)

    literal = re.compile(r'"(?:[^"\\]|\\.)*"')
    rendered = render(tree)

    assert sorted(map(json.loads, literal.findall(rendered))) == sorted(texts_of(tree))
    beside = re.sub(r"-?[0-9][0-9.e+-]*", "", literal.sub("", rendered))
    assert set(re.findall(r"\w+", beside)) <= {
        "and", "or", "not", "in", "true", "false", "attributes", "categories",
        "array_contains_any", "available", "created_at_ms", "popularity",
    }  # fmt: skip
    assert not set(re.sub(r"\w+", "", beside)) - set("()[],<>= ")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@example('"] or true or ["')
def test_any_text_of_a_caller_stays_a_text(text):
    tree = parse(f"brand == {json.dumps(text)}", Shop())

    assert tree == Compare(BRAND, "==", text)
    assert json.loads(render(tree).removeprefix('attributes["brand"] == ')) == text


PIECES = st.sampled_from(
    [
        *("price", "brand", "sold_out", "category", "created_at", "popularity", "`", "\n", "\0"),
        *("AND", "or", "NOT", "in", "not in", "==", "!=", "<", "=", "(", ")", "[", "]", ",", "-"),
        *('"', "'", '"a"', "1", "1e9", "true", "\\", "💥"),
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES).map("".join), st.lists(PIECES).map(" ".join)))
def test_any_text_parses_or_is_invalid_input(text):
    with suppress(InvalidInput):
        render(parse(text, Shop()))
