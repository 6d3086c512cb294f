import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import InvalidInput
from protos.keys import (
    checked_id,
    checked_tenant,
    compose_key,
    event_hash,
    item_hash,
    short_item_hash,
    split_key,
    text_digest,
)  # fmt: skip


@given(st.lists(st.text(), min_size=1))
def test_a_key_splits_into_what_it_was_composed_of(parts):
    assert split_key(compose_key(*parts)) == parts


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_two_users_never_share_a_key(one, other):
    assert (compose_key(*one) == compose_key(*other)) == (one == other)


def test_an_empty_tenant_is_the_default_one():
    assert checked_tenant("") == "default"


@pytest.mark.parametrize("tenant", ["A", "a b", "a/b", "x" * 65, "\N{SNOWMAN}"])
def test_a_tenant_of_other_characters_is_refused(tenant):
    with pytest.raises(InvalidInput, match="tenant"):
        checked_tenant(tenant)


@pytest.mark.parametrize("value", ["", "x" * 257, "\N{SNOWMAN}" * 86])
def test_an_id_is_1_to_256_bytes(value):
    with pytest.raises(InvalidInput, match="item_id"):
        checked_id(value, "item_id")

    assert checked_id("x" * 256, "item_id")


def test_garbage_keys_are_the_callers_fault():
    with pytest.raises(InvalidInput, match="UTF-8"):
        split_key(b"\xff\xfe")


def test_hashes_are_the_same_in_every_process_and_for_ever():
    """Histories on disk depend on these numbers."""
    assert item_hash("default", "50") == 0xE0AABA377654A807
    assert short_item_hash("default", "50") == 0x7654A807
    assert event_hash("e1") == 0x0535BB3EBB3699F7
    assert text_digest("Star Wars (1977)") == 0x6E08EA54A2FFF202
