import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.candidates import n_wanted, nearest_of_each
from retrieval.milvus.wire import Hits


class Item:
    def __init__(self, key):
        self.key = key


class FakeShowable:
    """Has seen some, does not want others; counts what it is made to look at."""

    def __init__(self, seen=(), unwanted=()):
        self.seen, self.unwanted, self.n_looked_at = set(seen), set(unwanted), 0

    def are_seen(self, keys):
        return np.array([key in self.seen for key in keys], np.bool_)

    def wanted(self, keys):
        assert len(set(keys)) == len(keys)
        self.n_looked_at += len(keys)
        return [Item(key) for key in keys if key not in self.unwanted]


def hits(*rows):
    return [Hits(tuple(b"%d" % one for one in row), np.zeros(len(row))) for row in rows]


def named(rows):
    return [b"%d" % one for one in rows]


def keys(found):
    return [int(item.key) for item in found.items]


def test_only_as_many_are_looked_at_as_the_merge_can_use():
    showable = FakeShowable(seen=named(range(10)))

    found = nearest_of_each(hits(range(100), range(50, 150)), 100, showable, n=4)

    assert set(keys(found)) == {*range(10, 20), *range(50, 60)}
    assert showable.n_looked_at == 26


def test_when_much_of_an_interest_is_not_wanted_all_of_it_is_looked_at():
    showable = FakeShowable(unwanted=named(range(20)))

    found = nearest_of_each(hits(range(100), range(200, 300)), 100, showable, n=4)

    assert set(keys(found)) == {*range(20, 30), *range(200, 210)}


def test_no_hits_give_no_candidates():
    assert nearest_of_each([], 9, FakeShowable(), n=4).items == []
    assert keys(nearest_of_each(hits([], [7]), 9, FakeShowable(), n=4)) == [7]


def test_it_says_how_many_hits_the_interest_with_the_most_seen_passed_over():
    showable = FakeShowable(seen=named([1, 3, 99]), unwanted=named([100, 150]))

    found = nearest_of_each(hits(range(100), range(100, 200)), 100, showable, n=4)

    assert found.passed_over == 2


def test_one_interest_that_has_too_few_needs_a_deeper_search():
    showable = FakeShowable(seen=named(range(95)))

    found = nearest_of_each(hits(range(100), range(200, 300)), 100, showable, n=4)

    assert not found.are_all
    assert found.passed_over == 95


def test_an_interest_that_has_no_more_needs_none():
    found = nearest_of_each(hits(range(100), [200, 201]), 100, FakeShowable(), n=4)

    assert found.are_all


HITS = st.lists(st.lists(st.integers(0, 60), unique=True, max_size=40), min_size=1, max_size=4)
SOME = st.sets(st.integers(0, 60))


@given(HITS, SOME, SOME, st.integers(1, 8))
def test_they_are_each_interests_nearest_that_may_be_shown(rows, seen, unwanted, n):
    showable = FakeShowable(named(seen), named(unwanted))

    found = nearest_of_each(hits(*rows), 40, showable, n)

    nearest = [[one for one in row if one not in seen | unwanted][: n_wanted(n)] for row in rows]
    assert keys(found) == list(dict.fromkeys(one for row in nearest for one in row))


@given(HITS, SOME, SOME, st.integers(1, 8), st.integers(1, 40))
def test_a_search_that_was_deep_enough_finds_what_the_deepest_finds(rows, seen, unwanted, n, limit):
    showable = FakeShowable(named(seen), named(unwanted))
    cut = hits(*(row[:limit] for row in rows))

    found = nearest_of_each(cut, limit, showable, n)
    deepest = nearest_of_each(hits(*rows), 41, showable, n)

    if found.are_all:
        assert keys(found) == keys(deepest)
        assert found.passed_over == deepest.passed_over
    else:
        assert limit < n_wanted(n) + deepest.passed_over
