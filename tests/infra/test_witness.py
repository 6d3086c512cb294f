import pytest

from infra.witness import moved_items


def test_a_seen_item_that_vanishes_moves_nothing():
    assert moved_items("abcde", "bcdef", consumed="a") == []
    assert moved_items("abcde", "abdef", consumed="c") == []


def test_items_that_trade_places_have_moved():
    assert moved_items("abcde", "acbef", consumed="d") == ["c", "b"]


def test_a_newcomer_above_the_end_moves_what_it_pushes_down():
    assert moved_items("abcd", "xbcd", consumed="a") == ["x", "b", "c"]


@pytest.mark.parametrize("consumed", ["z", "a"])
def test_the_same_feed_moves_only_by_the_gap(consumed):
    moved = moved_items("abc", "abc", consumed=consumed)

    assert moved == ([] if consumed == "z" else ["a", "b"])
