import pytest

from protos.keys import compose_key
from protos.rec.v1.interests_pb2 import SeenSegment, Tier
from retrieval.interests import UserCache
from retrieval.measures import REFUSED_RECORDS
from retrieval.store import Store
from tests.retrieval.retrieval_world import hashes, interests, recent, record, state, unit

ALONG_X, ALONG_Y = interests(unit(1, 0, 0, 0)), interests(unit(0, 1, 0, 0))
KEY = compose_key("default", "u")


class InterruptedStore(Store):
    """Lets something happen between the reading of rows and their use."""

    meanwhile = None

    def scan(self, *where):
        rows = list(super().scan(*where))
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        return iter(rows)


class Cache(UserCache):
    """One whose news can be looked at."""

    def __init__(self, folder):
        self.store = InterruptedStore(folder / "store")
        self.news: list[set[bytes]] = []
        super().__init__(self.store, max_bytes=2**20, on_change=self.news.append)

    def take(self, *states, offset=0):
        records = [record(KEY, one, offset + at) for at, one in enumerate(states)]
        self.apply_interests("interests", records)

    def take_segment(self, index, segment, offset=0):
        key = compose_key("default", "u", str(index))
        self.apply_seen("seen", [record(key, segment, offset)])

    @property
    def known(self):
        return self.get("default", "u")


@pytest.fixture
def cache(tmp_path):
    made = Cache(tmp_path)
    yield made
    made.store.close()


def refused(what):
    return REFUSED_RECORDS.labels("interests", what)._value.get()


def segment(index, *items, offset=0, time_ms=0):
    return SeenSegment(
        tenant="default",
        user_id="u",
        segment_index=index,
        item_hashes=hashes(*items),
        last_event_time_ms=time_ms,
        offset=offset,
    )


def test_a_user_nobody_wrote_about_is_unknown(cache):
    assert cache.known is None


def test_a_newer_record_replaces_an_older_one(cache):
    cache.take(state("u", 1, ALONG_X), state("u", 2, ALONG_Y))

    assert cache.known.state.encoded_offset == 2


@pytest.mark.parametrize(
    "late",
    [
        state("u", 4, interests(unit(0, 1, 0, 0), sequence=9, tier=2)),
        state("u", 5, interests(unit(0, 1, 0, 0), sequence=1, tier=2)),
        state("u", 5, interests(unit(0, 1, 0, 0), sequence=2, tier=1)),
        state("u", 5, interests(unit(0, 1, 0, 0), sequence=2, tier=2)),
    ],
    ids=["older record", "older model", "lower tier", "the same again"],
)
def test_what_comes_late_changes_nothing(cache, late):
    cache.take(state("u", 5, interests(unit(1, 0, 0, 0), sequence=2, tier=2)))

    cache.take(late)

    assert cache.known.matrix.tolist() == [[1, 0, 0, 0]]


def test_the_order_is_offset_then_model_then_tier(cache):
    light = interests(unit(1, 0, 0, 0), sequence=1, tier=Tier.TIER_LIGHT)
    refined = interests(unit(0, 1, 0, 0), sequence=1, tier=Tier.TIER_REFINED)
    newer_model = interests(unit(0, 0, 1, 0), sequence=2, tier=Tier.TIER_LIGHT)

    for expected in (light, refined, newer_model):
        cache.take(state("u", 5, expected))
        assert cache.known.state.interests == expected


def test_garbage_is_counted_and_its_neighbours_apply(cache):
    before = refused("state")

    cache.apply_interests("interests", [record(KEY, b"\xff\xff", 0), record(KEY, None, 1)])
    cache.take(state("u", 1, ALONG_X), offset=2)

    assert refused("state") == before + 2
    assert cache.known.state.encoded_offset == 1


def test_a_key_of_another_user_is_refused(cache):
    cache.apply_interests("interests", [record(compose_key("default", "v"), state("u", 1))])

    assert cache.known is None


def test_vectors_of_a_wrong_length_are_counted_and_the_last_good_ones_stay(cache):
    before, broken = refused("vectors"), interests(unit(0, 1, 0, 0))
    broken.vectors = broken.vectors[:-1]
    cache.take(state("u", 1, ALONG_X))

    cache.take(state("u", 2, broken))

    assert refused("vectors") == before + 1
    assert cache.known.state.encoded_offset == 2
    assert (cache.known.matrix, cache.known.fallback) == (None, ALONG_X)


def test_the_vectors_of_the_model_before_stay_as_a_fallback(cache):
    newer = interests(unit(0, 1, 0, 0), model="m2", sequence=2)

    cache.take(state("u", 1, ALONG_X), state("u", 2, newer))

    assert cache.known.fallback == ALONG_X


def test_an_erased_user_leaves_the_marker_alone(cache):
    cache.take(state("u", 1, ALONG_X, n_closed_segments=1, recent=[recent("a")]))
    cache.take_segment(0, segment(0, "a", offset=1))

    cache.take(state("u", 2, erased=True, n_events=0))

    known = cache.known
    assert (known.state.erased, known.matrix, known.fallback) == (True, None, None)
    assert list(cache.store.scan(b"S", b"")) == list(cache.store.scan(b"F", b"")) == []


def test_hashes_from_before_an_erasure_do_not_come_back(cache):
    cache.take(state("u", 9, erased=True))
    cache.take_segment(0, segment(0, "a", offset=8))
    cache.take(state("u", 20, ALONG_X, n_closed_segments=1))

    assert len(cache.closed_seen(cache.known).hashes) == 0


def test_late_interests_do_not_bring_an_erased_user_back(cache):
    cache.take(state("u", 9, erased=True))

    cache.take(state("u", 8, ALONG_X))

    assert cache.known.state.erased


def test_closed_segments_are_seen_as_soon_as_the_state_says_closed(cache):
    """rec.seen may lag behind rec.interests: the old open segment stands in."""
    cache.take(state("u", 1, ALONG_X, open_segment_hashes=hashes("a", "b")))
    cache.take(state("u", 2, ALONG_X, n_closed_segments=1, recent=[recent("c")]))
    assert set(cache.closed_seen(cache.known).hashes) == set(segment_hashes("a", "b"))

    cache.take_segment(0, segment(0, "a", "b", "c", offset=2))

    assert set(cache.closed_seen(cache.known).hashes) == set(segment_hashes("a", "b", "c"))


def test_a_real_segment_is_never_replaced_by_the_stand_in(cache):
    cache.take(state("u", 1, ALONG_X, open_segment_hashes=hashes("a")))
    cache.take_segment(0, segment(0, "a", "b", offset=2))

    cache.take(state("u", 2, ALONG_X, n_closed_segments=1))

    assert set(cache.closed_seen(cache.known).hashes) == set(segment_hashes("a", "b"))


def test_what_was_read_before_a_segment_came_is_not_remembered_after_it(cache):
    cache.take(state("u", 1, ALONG_X, n_closed_segments=1))
    cache.store.meanwhile = lambda: cache.take_segment(0, segment(0, "a"))
    cache.closed_seen(cache.known)

    assert set(cache.closed_seen(cache.known).hashes) == set(segment_hashes("a"))


def test_a_deleted_segment_is_forgotten(cache):
    cache.take(state("u", 1, ALONG_X, n_closed_segments=1))
    cache.take_segment(0, segment(0, "a"))
    assert len(cache.closed_seen(cache.known).hashes) == 1

    cache.take_segment(0, None)

    assert len(cache.closed_seen(cache.known).hashes) == 0


def test_a_restart_serves_from_disk_and_goes_on_where_it_stopped(tmp_path):
    first = Cache(tmp_path)
    first.take(state("u", 7, ALONG_X), offset=41)
    first.store.close()

    second = Cache(tmp_path)

    assert second.known.state.encoded_offset == 7
    assert second.known.matrix.tolist() == [[1, 0, 0, 0]]
    assert second.store.next_offsets("interests") == {0: 42}
    second.store.close()


def test_an_evicted_user_is_read_from_disk(cache):
    cache.take(state("u", 7, ALONG_X))
    cache.users.drop(b"default/u")

    assert cache.known.state.encoded_offset == 7


def test_only_users_that_changed_are_news(cache):
    cache.take(state("u", 7, ALONG_X))
    cache.take(state("u", 7, ALONG_X))

    assert cache.news == [{b"default/u"}, set()]


def test_the_moment_of_receipt_is_a_hop(cache):
    cache.take(state("u", 7, ALONG_X))

    assert [hop.name for hop in cache.known.state.hops] == ["received"]


def test_users_are_listed_in_the_order_of_their_ids(cache):
    for user_id in ("b", "a/b", "a", "ab", "c"):
        key = compose_key("default", user_id)
        cache.apply_interests("interests", [record(key, state(user_id, 1))])

    assert [user.user_id for user in cache.scan("default", "a", "")] == ["a", "a/b", "ab"]
    assert [user.user_id for user in cache.scan("default", "a", "a/b")] == ["ab"]
    assert list(cache.scan("other", "", "")) == []


def segment_hashes(*items):
    raw = hashes(*items)
    return [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
