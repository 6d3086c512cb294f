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

    found = nearest_of_each(hits(range(100), range(50, 150)), showable, n=4)

    assert set(keys(found)) == {*range(10, 32), *range(50, 72)}
    assert showable.n_looked_at == 44
    assert found.seen_share == 10 / 150


def test_when_much_of_an_interest_is_not_wanted_all_of_it_is_looked_at():
    showable = FakeShowable(unwanted=named(range(20)))

    found = nearest_of_each(hits(range(100), range(200, 300)), showable, n=4)

    assert {*range(20, 100)} <= set(keys(found))


def test_no_hits_give_no_candidates():
    assert nearest_of_each([], FakeShowable(), n=4).items == []
    assert keys(nearest_of_each(hits([], [7]), FakeShowable(), n=4)) == [7]


@given(
    st.lists(st.lists(st.integers(0, 60), unique=True, max_size=40), min_size=1, max_size=4),
    st.sets(st.integers(0, 60)),
    st.sets(st.integers(0, 60)),
    st.integers(1, 8),
)
def test_each_interests_nearest_that_may_be_shown_are_among_them(rows, seen, unwanted, n):
    showable = FakeShowable(named(seen), named(unwanted))

    found = nearest_of_each(hits(*rows), showable, n)

    for row in rows:
        may_be_shown = [one for one in row if one not in seen | unwanted]
        assert set(may_be_shown[: n_wanted(n)]) <= set(keys(found))
    assert len(set(keys(found))) == len(found.items)
    assert not set(keys(found)) & (seen | unwanted)
