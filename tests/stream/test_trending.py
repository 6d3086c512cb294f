import math
import random
from collections import defaultdict

import pytest

from stream.trending import HALF_LIFE_MS, N_FRESH, N_PUBLISHED, Trending

START_MS = 1_700_000_000_000


def uncategorised(tenant, item_id):
    return ()


def lists(trending):
    return {
        (one.tenant, one.category): {item.item_id: item.score for item in one.items}
        for one in trending.take_changed()
    }


def test_decayed_counts_equal_the_slow_plain_sum():
    rng = random.Random(3)
    events = [
        (f"i{rng.randrange(30)}", rng.choice((0.5, 1.0, 5.0)), START_MS + i * 3_600_000)
        for i in range(400)
    ]
    trending = Trending(0, lambda tenant, item_id: ["a", "b"] if item_id < "i2" else ["a"])
    for item_id, weight, at_ms in events:
        trending.add("t", [(item_id, weight)], at_ms)

    end_ms = events[-1][2]
    plain = defaultdict(float)
    for item_id, weight, at_ms in events:
        plain[item_id] += weight * 0.5 ** ((end_ms - at_ms) / HALF_LIFE_MS)
    found = lists(trending)
    assert found["t", ""] == pytest.approx(dict(plain))
    assert found["t", "a"] == pytest.approx(dict(plain))
    assert found["t", "b"] == pytest.approx({i: s for i, s in plain.items() if i < "i2"})


def test_list_is_greatest_first_and_bounded():
    trending = Trending(0, uncategorised)
    for i in range(N_PUBLISHED + 50):
        trending.add("t", [(f"i{i}", 1.0 + i)], START_MS)

    (published,) = trending.take_changed()

    scores = [item.score for item in published.items]
    assert len(scores) == N_PUBLISHED
    assert scores == sorted(scores, reverse=True)


def test_count_halves_in_a_half_life():
    trending = Trending(0, uncategorised)
    trending.add("t", [("old", 8.0)], START_MS)
    trending.add("t", [("new", 1.0)], START_MS + 3 * HALF_LIFE_MS)

    assert lists(trending)["t", ""] == pytest.approx({"old": 8 / 2**3, "new": 1.0})


def test_only_changed_lists_are_published_again():
    trending = Trending(0, lambda tenant, item_id: {"a": ["x"], "b": ["y"]}[item_id])
    trending.add("t", [("a", 1.0), ("b", 1.0)], START_MS)
    list(trending.take_changed())

    trending.add("t", [("a", 1.0)], START_MS)

    assert set(lists(trending)) == {("t", ""), ("t", "x")}


def test_taken_up_list_continues_where_it_was():
    first, whole = Trending(0, uncategorised), Trending(0, uncategorised)
    for i in range(50):
        for one in (first, whole):
            one.add("t", [(f"i{i % 5}", 1.0)], START_MS + i * 10_000_000)
    second = Trending(0, uncategorised)
    for published in first.take_changed():
        second.merge(published)
    for one in (second, whole):
        one.add("t", [("i1", 1.0)], START_MS + HALF_LIFE_MS)

    assert lists(second)["t", ""] == pytest.approx(lists(whole)["t", ""])


def test_disliked_items_are_not_trending():
    trending = Trending(0, uncategorised)
    trending.add("t", [("good", 1.0)], START_MS)
    trending.add("t", [("bad", -3.0)], START_MS)

    assert set(lists(trending)["t", ""]) == {"good"}


def test_years_later_the_numbers_are_still_finite():
    trending = Trending(0, uncategorised)
    for half_lives in range(0, 3_000, 50):
        trending.add("t", [("a", 5.0)], START_MS + half_lives * HALF_LIFE_MS)

    score = lists(trending)["t", ""]["a"]
    assert math.isfinite(score)
    assert score == pytest.approx(5.0)


def test_memory_is_bounded_and_the_best_survive():
    trending = Trending(0, lambda tenant, item_id: [f"of {item_id}"], n_counted=100, n_lists=3)
    for i in range(5_000):
        trending.add("t", [(f"rare{i}", 0.1), ("hit", 1.0)], START_MS)

    found = lists(trending)
    assert len(found) == 3
    assert found["t", ""]["hit"] == pytest.approx(5_000)
    assert len(found["t", ""]) <= 100


def test_events_may_come_while_lists_are_published():
    trending = Trending(0, lambda tenant, item_id: [f"of {item_id}"])
    trending.add("t", [("a", 1.0), ("b", 1.0)], START_MS)

    published = []
    for one in trending.take_changed():
        published.append(one.category)
        trending.add("t", [(f"new{i}", 1.0) for i in range(N_FRESH + 1)], START_MS)

    assert published == ["", "of a", "of b"]
    assert "of new0" in {category for _, category in lists(trending)}
