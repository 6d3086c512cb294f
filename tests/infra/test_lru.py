from hypothesis import given
from hypothesis import strategies as st

from infra.lru import Lru


def test_what_was_used_least_recently_goes_first():
    cache = Lru(30)
    for name in "abc":
        cache.put(name, name.upper(), 10)
    cache.get("a")

    cache.put("d", "D", 10)

    assert cache.get_many(["a", "b", "c", "d"]) == ["A", None, "C", "D"]


def test_put_if_absent_never_covers_what_came_meanwhile():
    cache = Lru(100)
    cache.put("a", "new", 1)

    assert cache.put_if_absent("a", "old from disk", 1) == "new"


def test_a_value_beyond_the_bound_is_kept_alone():
    cache = Lru(10)
    cache.put("small", 1, 5)

    cache.put("large", 2, 50)

    assert (cache.get("small"), cache.get("large")) == (None, 2)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 9), st.booleans())))
def test_bytes_are_bounded_and_counted_exactly(steps):
    cache, sizes = Lru(20), {}
    for key, n_bytes, is_drop in steps:
        if is_drop:
            cache.drop(key)
        else:
            cache.put(key, key, n_bytes)
            sizes[key] = n_bytes
        held = [key for key in "abcdef" if cache.get(key) is not None]

        assert cache.size == sum(sizes[key] for key in held) <= 20
