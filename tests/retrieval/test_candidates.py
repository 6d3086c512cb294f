import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.candidates import PER_PLACE, nearest_of_each
from retrieval.milvus.wire import Hits


class Item:
    def __init__(self, key):
        self.key = key


class FakeShowable:
    """Shows what is not hidden; counts what it is asked about."""

    def __init__(self, hidden=()):
        self.hidden, self.n_asked = set(hidden), 0

    def keep(self, keys):
        assert len(set(keys)) == len(keys)
        self.n_asked += len(keys)
        return [Item(key) for key in keys if key not in self.hidden]


def hits(*rows):
    return [Hits(tuple(b"%d" % one for one in row), np.zeros(len(row))) for row in rows]


def keys(items):
    return [int(item.key) for item in items]


def test_only_as_many_are_looked_at_as_the_merge_can_use():
    showable = FakeShowable()

    found = nearest_of_each(hits(range(100), range(50, 150)), showable, n=4)

    assert set(keys(found)) == {*range(12), *range(50, 62)}
    assert showable.n_asked == 24


def test_when_much_of_an_interest_is_hidden_all_of_it_is_looked_at():
    hidden = [b"%d" % one for one in range(20)]

    found = nearest_of_each(hits(range(100), range(200, 300)), FakeShowable(hidden), n=4)

    assert {*range(20, 100)} <= set(keys(found))


def test_no_hits_give_no_candidates():
    assert nearest_of_each([], FakeShowable(), n=4) == []
    assert nearest_of_each(hits([], [7]), FakeShowable(), n=4)[0].key == b"7"


@given(
    st.lists(st.lists(st.integers(0, 60), unique=True, max_size=40), min_size=1, max_size=4),
    st.sets(st.integers(0, 60)),
    st.integers(1, 8),
)
def test_each_interests_nearest_that_may_be_shown_are_among_them(rows, hidden, n):
    found = nearest_of_each(hits(*rows), FakeShowable(b"%d" % one for one in hidden), n)

    for row in rows:
        showable = [one for one in row if one not in hidden]
        assert set(showable[: PER_PLACE * n]) <= set(keys(found))
    assert len(set(keys(found))) == len(found)
