from collections import Counter

import pytest

from infra.kafka_topics import user_partition
from protos.actions import declared_actions
from protos.keys import compose_key, short_item_hash, split_key
from protos.rec.v1.events_pb2 import EventBatch
from protos.rec.v1.items_pb2 import ItemVector
from stream.bench.event_log import KeyedValue, encode_items, make_events, make_items
from stream.bench.stub_encoder import StubEncoder
from stream.catalogue import Catalogue
from stream.validation import Place, validate

FAR_AHEAD_MS = 2**42
N_EVENTS, N_USERS, N_ITEMS = 2_000, 50, 100


@pytest.fixture(scope="module")
def events() -> list[KeyedValue]:
    return make_events(N_EVENTS, N_USERS, N_ITEMS)


def test_every_record_is_one_event_that_the_worker_applies(events):
    place = Place("rec.events", 0, 0, FAR_AHEAD_MS)

    for key, value in events:
        said = validate(value, place, declared_actions().get)

        assert said.user_key == key
        assert (len(said.events), said.rejected, said.n_impressions) == (1, (), 0)


def test_no_event_is_a_retry_of_another(events):
    names = {EventBatch.FromString(value).events[0].event_id for _, value in events}

    assert len(names) == N_EVENTS


def test_few_users_have_most_events_and_every_partition_has_some(events):
    n_events_of = Counter(key for key, _ in events)
    busiest = sum(n for _, n in n_events_of.most_common(N_USERS // 5))

    assert busiest > 0.3 * N_EVENTS
    assert {user_partition(*split_key(key), 4) for key in n_events_of} == {0, 1, 2, 3}


def test_same_seed_makes_the_same_users_in_the_same_order(events):
    again = make_events(N_EVENTS, N_USERS, N_ITEMS)
    other = make_events(N_EVENTS, N_USERS, N_ITEMS, seed=1)

    assert [key for key, _ in again] == [key for key, _ in events]
    assert [key for key, _ in other] != [key for key, _ in events]


def test_items_of_the_stub_encoder_have_codes_in_the_catalogue():
    encoder = StubEncoder().start()
    try:
        vectors = encode_items(make_items(600), encoder.address)
    finally:
        encoder.stop()
    catalogue = Catalogue(4, on_ambiguous=lambda: None)

    for offset, (key, value) in enumerate(vectors):
        catalogue.apply(key, value, 0, offset)

    codes_of = catalogue.codes_of(int(encoder.codebook_version, 16))
    assert all(codes_of(short_item_hash("default", f"item-{i}")) for i in range(600))
    last = ItemVector.FromString(vectors[-1][1])
    assert vectors[-1][0] == compose_key(last.item.tenant, last.item.item_id)
