import numpy as np

from protos.keys import short_item_hash
from protos.rec.v1.interests_pb2 import SeenSegment
from protos.rec.v1.recommend_pb2 import SeenPolicy
from retrieval.seen import DAY_MS, LastSeen, Policy, seen_mask
from tests.retrieval.retrieval_world import hashes, recent, state

NOW_MS = 100 * DAY_MS
NEVER = Policy.of(SeenPolicy.SEEN_POLICY_UNSPECIFIED, 0, NOW_MS)
AFTER_10_DAYS = Policy.of(SeenPolicy.SEEN_POLICY_AFTER_DAYS, 10, NOW_MS)


def hidden(item_ids, closed, user, policy):
    candidates = np.array([short_item_hash("default", i) for i in item_ids], np.uint32)
    mask = seen_mask(candidates, closed, LastSeen.of_open(user), policy)
    return [item_id for item_id, is_hidden in zip(item_ids, mask, strict=True) if is_hidden]


def segment(*item_ids, last_ms=0):
    return SeenSegment(item_hashes=hashes(*item_ids), last_event_time_ms=last_ms)


def test_closed_open_and_recent_items_are_all_seen():
    closed = LastSeen.of_closed([segment("a", "b")])
    user = state("u", 1, open_segment_hashes=hashes("c"), recent=[recent("d")])

    assert hidden("abcde", closed, user, NEVER) == ["a", "b", "c", "d"]


def test_allowed_hides_nothing():
    closed = LastSeen.of_closed([segment("a")])
    allowed = Policy.of(SeenPolicy.SEEN_POLICY_ALLOWED, 0, NOW_MS)

    assert hidden("ab", closed, state("u", 1, recent=[recent("b")]), allowed) == []


def test_after_days_an_item_comes_back_when_its_last_segment_is_old_enough():
    closed = LastSeen.of_closed(
        [segment("a", "b", last_ms=NOW_MS - 20 * DAY_MS), segment("b", last_ms=NOW_MS - DAY_MS)]
    )

    assert hidden("ab", closed, state("u", 1), AFTER_10_DAYS) == ["b"]


def test_an_exact_recent_time_overrides_the_open_segments_guess():
    user = state(
        "u",
        1,
        open_segment_hashes=hashes("old", "new", "undated"),
        recent=[recent("old", NOW_MS - 11 * DAY_MS), recent("new", NOW_MS - 9 * DAY_MS)],
    )

    shown = hidden(["old", "new", "undated"], LastSeen.of_closed([]), user, AFTER_10_DAYS)

    assert shown == ["new", "undated"]


def test_an_item_seen_twice_counts_from_the_later_time():
    times = [recent("a", NOW_MS - DAY_MS), recent("a", NOW_MS - 30 * DAY_MS)]

    assert hidden("a", LastSeen.of_closed([]), state("u", 1, recent=times), AFTER_10_DAYS) == ["a"]


def test_a_torn_tail_of_hashes_harms_nothing():
    user = state("u", 1, open_segment_hashes=hashes("a") + b"\x01")

    assert hidden("ab", LastSeen.of_closed([]), user, NEVER) == ["a"]
