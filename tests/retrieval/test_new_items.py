import time

import numpy as np
import pytest

from protos.keys import compose_key
from protos.rec.v1.recommend_pb2 import ItemSource
from retrieval.catalogue import Catalogue
from retrieval.new_items import DAY_MS, NewItems
from retrieval.newest import newest
from retrieval.store import META, NEWEST
from tests.clock import Clock
from tests.retrieval.recommending import X, fill, ids, recommend
from tests.retrieval.retrieval_world import hashes, interests, item_vector, record, state, unit

NOW_MS = 1_700_000_000_000


@pytest.fixture
def clock():
    return Clock(NOW_MS / 1000)


@pytest.fixture
def new_items(store, catalogue, clock):
    return NewItems(store, catalogue, max_age_days=7, clock=clock)


def put(catalogue, item_id, days_ago, vector=X, tenant="default"):
    created = int(NOW_MS - days_ago * DAY_MS) if days_ago is not None else 0
    message = item_vector(item_id, vector, created_at_ms=created)
    message.item.tenant = tenant
    catalogue.apply("items", [record(compose_key(tenant, item_id), message)])


def nearest(new_items, n=10, tenant="default", version="m1", dim=4):
    keys = new_items.nearest(tenant, version, np.eye(dim, dtype=np.float32)[:1], n)
    return [key.decode().partition("/")[2] for key in keys]


def test_new_are_items_of_the_last_days_by_their_own_word(catalogue, new_items):
    put(catalogue, "young", 1)
    put(catalogue, "younger", 0.5)
    put(catalogue, "old", 8)
    put(catalogue, "ageless", None)
    put(catalogue, "unborn", -1)
    put(catalogue, "another's", 1, tenant="other")

    assert sorted(nearest(new_items)) == ["young", "younger"]


def test_those_an_interest_is_nearest_to_come_first(catalogue, new_items):
    put(catalogue, "far", 1, unit(0, 1, 0, 0))
    put(catalogue, "near", 2, unit(1, 0.1, 0, 0))
    put(catalogue, "nearest", 3, X)

    assert nearest(new_items, n=2) == ["nearest", "near"]


def test_one_that_changes_its_age_is_deleted_or_has_just_been_made_is_noticed(
    catalogue, new_items, clock
):
    for item_id in ("kept", "aged", "deleted"):
        put(catalogue, item_id, 1)
    assert len(nearest(new_items)) == 3

    put(catalogue, "aged", 30)
    put(catalogue, "made", 0.1)
    catalogue.apply("items", [record(compose_key("default", "deleted"), None)])
    clock.now_s += 1.0

    assert sorted(nearest(new_items)) == ["kept", "made"]


def test_an_item_grows_old_by_itself(catalogue, new_items, clock):
    put(catalogue, "young", 6.9)
    assert nearest(new_items) == ["young"]
    clock.now_s += DAY_MS / 1000

    assert nearest(new_items) == []


def test_a_restart_knows_them_at_once_and_an_older_store_is_listed(catalogue, store, clock):
    put(catalogue, "young", 1)
    again = NewItems(store, Catalogue(store, max_bytes=2**20), max_age_days=7, clock=clock)
    assert nearest(again) == ["young"]

    before = store.batch()
    before.delete_prefix(NEWEST, b"")
    before.delete(META, b"newest")
    before.write()
    old = NewItems(store, Catalogue(store, max_bytes=2**20), max_age_days=7, clock=clock)
    assert nearest(old) == ["young"]


def test_an_item_has_one_row_however_often_it_comes(catalogue, store):
    for days in (3, 2, 2, 1):
        put(catalogue, "restless", days)

    assert len(list(newest(store, "default", since_ms=0, until_ms=NOW_MS))) == 1
    catalogue.apply("items", [record(compose_key("default", "restless"), None)])
    assert len(list(store.scan(NEWEST, b""))) == 0


def test_vectors_of_another_model_or_length_are_left_out(catalogue, new_items):
    put(catalogue, "good", 1)
    put(catalogue, "short", 1, unit(1, 0))

    assert nearest(new_items) == ["good"]
    assert nearest(new_items, version="another") == []


def add_new(world, item_id, vector, **fields):
    created = time.time_ns() // 1_000_000 - DAY_MS
    world.add_item(item_id, vector, created_at_ms=created, **fields)


async def test_a_feed_keeps_every_fourth_place_for_a_new_item(world, stub):
    fill(world)
    add_new(world, "new-1", unit(0.3, 0, 0, 1))
    add_new(world, "new-2", unit(0.2, 0, 0, 1))
    world.add_user(state("u", 1, interests(X)))

    feed = await recommend(stub, n=8, explain=True)

    assert [i for i in ids(feed) if i.startswith("new")] == ["new-1", "new-2"]
    assert ids(feed)[3] == "new-1"
    sources = {item.item_id: item.explanation.source for item in feed.items}
    assert sources["new-1"] == ItemSource.ITEM_SOURCE_NEW
    assert sources["x0"] == ItemSource.ITEM_SOURCE_INTEREST


async def test_a_new_item_that_was_seen_excluded_or_is_not_wanted_has_no_place(world, stub):
    fill(world)
    add_new(world, "seen", X)
    add_new(world, "excluded", X)
    add_new(world, "gone", X, available=False)
    add_new(world, "unwanted", X, categories=["horror"])
    add_new(world, "wanted", unit(0.1, 0, 0, 1), categories=["action"])
    world.add_user(state("u", 1, interests(X), open_segment_hashes=hashes("seen")))

    feed = await recommend(stub, n=4, exclude_item_ids=["excluded"], categories=["action", "drama"])

    new = {"seen", "excluded", "gone", "unwanted", "wanted"}
    assert set(ids(feed)) & new == {"wanted"}
