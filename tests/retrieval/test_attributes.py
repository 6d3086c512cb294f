"""The catalogue knows which attributes a tenant's items carry."""

import random

import pytest

from protos.keys import compose_key
from protos.rec.v1.items_pb2 import AttributeValue, Item
from retrieval.attributes import MAX_ATTRIBUTES, MAX_NAME_BYTES, attributes_of
from retrieval.catalogue import Catalogue
from retrieval.filters import Kind
from retrieval.measures import ATTRIBUTES_BEYOND
from retrieval.store import ATTRIBUTES, META, Store
from tests.retrieval.filter_trees import random_attributes
from tests.retrieval.retrieval_world import item_vector, record, unit


def carrying(item_id, tenant="default", **attributes):
    """A record of an item; attributes by name."""
    message = item_vector(item_id, unit(1, 0), attributes=attributes)
    message.item.tenant = tenant
    return record(compose_key(tenant, item_id), message)


def gone(item_id):
    return record(compose_key("default", item_id), None)


def text(value="x"):
    return AttributeValue(text=value)


def number(value=1.0):
    return AttributeValue(number=value)


def names(catalogue, tenant="default"):
    return catalogue.attributes(tenant).names()


def test_items_declare_what_they_carry_with_its_kinds(catalogue):
    flag = AttributeValue(flag=False)

    catalogue.apply("items", [carrying("1", size=text(), sale=flag), carrying("2", size=number(0))])

    assert names(catalogue) == {"sale": {Kind.FLAG}, "size": {Kind.TEXT, Kind.NUMBER}}
    assert catalogue.attributes("default").kinds("size") == {Kind.TEXT, Kind.NUMBER}
    assert catalogue.attributes("default").kinds("siz") == set()


def test_a_tenant_knows_its_own_attributes_alone(catalogue):
    catalogue.apply("items", [carrying("1", size=text()), carrying("1", "def", hue=text())])

    assert list(names(catalogue)) == ["size"]
    assert list(names(catalogue, "def")) == ["hue"]
    assert catalogue.attributes("def").kinds("size") == set()


def test_a_restart_knows_them_at_once(tmp_path):
    first = Store(tmp_path / "store")
    Catalogue(first, max_bytes=2**20).apply("items", [carrying("1", size=text())])
    first.close()

    again = Store(tmp_path / "store")

    assert names(Catalogue(again, max_bytes=2**20)) == {"size": {Kind.TEXT}}
    again.close()


def test_an_attribute_is_known_until_the_last_item_gives_it_up(catalogue):
    catalogue.apply("items", [carrying("1", size=text()), carrying("2", size=text())])

    catalogue.apply("items", [carrying("1")])
    assert names(catalogue) == {"size": {Kind.TEXT}}

    catalogue.apply("items", [gone("2")])
    assert names(catalogue) == {}


def test_an_item_that_comes_twice_counts_once(catalogue):
    catalogue.apply("items", [carrying("1", size=text()), carrying("1", size=text("y"))])
    catalogue.apply("items", [carrying("1", size=text())])

    catalogue.apply("items", [gone("1"), gone("1")])

    assert names(catalogue) == {}


def test_what_is_refused_declares_nothing(catalogue):
    wrong = carrying("1", size=text())

    catalogue.apply("items", [record(compose_key("default", "2"), wrong.value)])

    assert names(catalogue) == {}


def test_names_beyond_the_bound_are_counted_and_wait_their_turn(catalogue):
    before = ATTRIBUTES_BEYOND._value.get()
    for row in range(MAX_ATTRIBUTES):
        catalogue.apply("items", [carrying(f"{row}", **{f"n{row}": text()})])
    catalogue.apply("items", [carrying("late", a=text(), b=text()), carrying("other", a=number())])
    attributes = catalogue.attributes("default")

    assert len(attributes.names()) == MAX_ATTRIBUTES
    assert (attributes.kinds("a"), attributes.is_beyond("a")) == (set(), True)
    assert ATTRIBUTES_BEYOND._value.get() == before + 2

    catalogue.apply("items", [gone("7"), carrying("new", c=text())])

    assert len(attributes.names()) == MAX_ATTRIBUTES
    assert (attributes.kinds("a"), attributes.is_beyond("a")) == ({Kind.TEXT, Kind.NUMBER}, False)
    assert attributes.is_beyond("b")
    assert attributes.is_beyond("c")

    catalogue.apply("items", [gone("late")])

    assert (attributes.kinds("a"), attributes.is_beyond("b")) == ({Kind.NUMBER}, False)


def test_a_name_that_waits_and_is_given_up_takes_no_place(catalogue):
    many = {f"n{row}": text() for row in range(MAX_ATTRIBUTES - 1)}
    catalogue.apply("items", [carrying("1", **many), carrying("2", one=text())])
    catalogue.apply("items", [carrying("3", a=text()), carrying("4", b=text())])

    catalogue.apply("items", [gone("2"), gone("3")])

    assert catalogue.attributes("default").kinds("b") == {Kind.TEXT}
    assert not catalogue.attributes("default").is_beyond("a")


def test_one_item_with_too_many_names_declares_no_more_than_the_bound(catalogue):
    many = {f"n{row}": text() for row in range(MAX_ATTRIBUTES + 50)}

    catalogue.apply("items", [carrying("1", **many)])

    assert len(names(catalogue)) == MAX_ATTRIBUTES


@pytest.mark.parametrize("name", ["", "n" * (MAX_NAME_BYTES + 1), "a][b", "a`b"])
def test_a_name_that_no_filter_can_hold_declares_nothing(catalogue, name):
    catalogue.apply("items", [carrying("1", **{name: text(), "ok": text()})])

    assert list(names(catalogue)) == ["ok"]


@pytest.mark.parametrize("is_left_over", [True, False])
def test_a_store_from_before_attributes_were_counted_is_counted_once(
    catalogue, store, is_left_over
):
    catalogue.apply("items", [carrying("1", size=text()), carrying("2", size=text())])
    uncounted = store.batch()
    uncounted.delete(META, b"attributes")
    if not is_left_over:
        uncounted.delete_prefix(ATTRIBUTES, b"")
    uncounted.write()

    again = Catalogue(store, max_bytes=2**20)
    Catalogue(store, max_bytes=2**20)

    assert names(again) == {"size": {Kind.TEXT}}
    again.apply("items", [gone("1"), gone("2")])
    assert names(again) == {}


def test_counts_are_those_of_the_items_whatever_came_before(catalogue):
    rng, carried = random.Random(3), {}
    for _ in range(60):
        batch = []
        for item_id in rng.choices("abcdef", k=rng.randrange(1, 4)):
            carried[item_id] = random_attributes(rng) if rng.random() < 0.7 else None
            is_gone = carried[item_id] is None
            batch.append(gone(item_id) if is_gone else carrying(item_id, **carried[item_id]))

        catalogue.apply("items", batch)

        assert names(catalogue) == declared_by(carried.values())


def declared_by(all_attributes):
    kinds = {}
    for attributes in filter(None, all_attributes):
        for name, value in attributes_of(Item(attributes=attributes)).items():
            kind = {str: Kind.TEXT, float: Kind.NUMBER, bool: Kind.FLAG}[type(value)]
            kinds.setdefault(name, set()).add(kind)
    return kinds


def test_numbers_that_are_not_finite_and_values_of_no_kind_are_no_attributes():
    attributes = {
        "nan": number(float("nan")),
        "inf": number(float("-inf")),
        "none": AttributeValue(),
    }

    assert attributes_of(Item(attributes=attributes | {"zero": number(0)})) == {"zero": 0.0}
