"""The refresh driver beside fakes of its neighbours."""

import asyncio

import pytest

from protos.errors import DependencyDown, FreshetError, Overloaded
from protos.history import erase
from protos.keys import text_digest
from protos.rec.v1.encoder_pb2 import (
    RESULT_STATUS_INVALID,
    RESULT_STATUS_NEED_BLOCKS,
    RESULT_STATUS_NEED_ITEMS,
    RESULT_STATUS_STALE_MODEL,
    Block,
    UserResult,
)
from protos.rec.v1.interests_pb2 import (
    TIER_LIGHT,
    TIER_REFINED,
    RecentItem,
)
from protos.rec.v1.items_pb2 import Item, ItemVector
from protos.segments import split_digests
from tests.stream.refresh_world import World, settle


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    yield world
    if hasattr(world, "running"):
        world.running.cancel()
    await world.refresher.revoked()
    world.blocks.close()


async def test_lone_user_goes_at_once_and_is_published_with_his_offsets(world):
    await world.start()

    offset = world.event("ann", "item-9")

    await settle(lambda: world.outbox.records)
    (state,) = world.outbox.states()
    assert (state.user_id, state.applied_offset, state.encoded_offset) == ("ann", offset, offset)
    assert (state.cause.item_id, state.cause.offset, state.cause.n_events) == ("item-9", offset, 1)
    assert state.cause.event_id == f"e{offset}"
    assert state.interests.tier == TIER_REFINED
    assert [hop.name for hop in state.hops] == ["accepted", "requested", "encoded", "published"]


async def test_users_who_come_during_a_call_share_the_next(world):
    await world.start()
    world.encoder.gate.clear()
    world.event("ann")
    await settle(lambda: world.encoder.requests)
    for user_id in ("bob", "cat", "ann", "bob", "ann"):
        world.event(user_id)

    world.encoder.gate.set()

    await settle(lambda: len(world.outbox.records) == 4)
    assert world.encoder.users() == [["ann"], ["bob", "cat", "ann"]]
    newest = {state.user_id: state for state in world.outbox.states()}
    assert newest["ann"].n_events == 3
    assert newest["ann"].cause.n_events == 2, "folded since the state before"


async def test_encoded_offset_is_of_the_state_that_was_sent_not_of_what_came_since(world):
    await world.start()
    world.encoder.gate.clear()
    first = world.event("ann")
    await settle(lambda: world.encoder.requests)
    second = world.event("ann")

    world.encoder.gate.set()

    await settle(lambda: len(world.outbox.records) == 2)
    states = world.outbox.states()
    assert (states[0].encoded_offset, states[0].applied_offset) == (first, second)
    assert (states[1].encoded_offset, states[1].n_events) == (second, 2)


@pytest.mark.parametrize("error", [DependencyDown("down"), Overloaded("full")])
async def test_failed_call_is_repeated_after_a_pause_until_it_succeeds(world, error):
    await world.start()
    world.encoder.failures = [error, error, error]

    world.event("ann")

    await settle(lambda: world.outbox.records)
    assert len(world.encoder.requests) == 4


async def test_one_state_that_breaks_a_call_takes_nobody_with_it(world):
    await world.start()
    world.encoder.gate.clear()
    world.event("first")
    await settle(lambda: world.encoder.requests)

    def answer(user, request):
        if user.user_id == "evil":
            raise FreshetError("internal error")
        return world.encoder.ok(user, request)

    world.encoder.answer = answer
    for user_id in ("ann", "evil", "bob"):
        world.event(user_id)
    world.encoder.gate.set()

    await settle(lambda: len(world.outbox.records) == 3)
    assert {state.user_id for state in world.outbox.states()} == {"first", "ann", "bob"}
    await asyncio.sleep(0.3)
    n_calls = len(world.encoder.requests)
    await asyncio.sleep(0.3)
    assert len(world.encoder.requests) == n_calls, "the evil one was not given up"
    assert world.partition.published(b"default/evil") is None


async def test_invalid_state_is_given_up_until_the_next_event(world):
    await world.start()
    world.encoder.answer = lambda user, request: UserResult(
        status=RESULT_STATUS_INVALID, reason="open_segment"
    )
    world.event("ann")
    await settle(lambda: world.encoder.requests)
    await asyncio.sleep(0.2)
    assert len(world.encoder.requests) == 1

    world.encoder.answer = world.encoder.ok
    world.event("ann")

    await settle(lambda: world.outbox.records)


async def test_blocks_are_sent_as_segments_once_and_as_memory_ever_after(world):
    known = {}

    def answer(user, request):
        sent = {block.digest for block in user.blocks}
        names = split_digests(user.block_digests)
        lacking = [name for name in names if name not in known and name not in sent]
        if lacking:
            return UserResult(status=RESULT_STATUS_NEED_BLOCKS, need_blocks=lacking)
        result = world.encoder.ok(user, request)
        for block in user.blocks:
            if block.segment:
                known[block.digest] = b"memory"
                result.closed_blocks.append(Block(digest=block.digest, memory=b"memory"))
        return result

    await world.start()
    world.encoder.gate.clear()
    for _ in range(5 * 4 + 1):
        world.event("ann")
    world.encoder.answer = answer
    world.encoder.gate.set()
    await settle(lambda: world.outbox.records and world.outbox.states()[-1].n_events == 21)

    sent = world.encoder.requests[-1].users[0]
    assert sent.n_closed_segments == 5
    assert [bool(b.segment) for b in sent.blocks] == [True] * 4, "2 visible, and 2 before them"
    known.clear()  # the encoder starts again, cold
    world.event("ann")
    await settle(lambda: world.outbox.states()[-1].n_events == 22)
    again = world.encoder.requests[-1].users[0]
    assert [b.memory for b in again.blocks] == [b"memory"] * 2


def recent_items(user):
    revisions = zip(user.recent_item_ids, user.recent_text_digests, strict=True)
    return [RecentItem(item_id=name, text_digest=digest) for name, digest in revisions]


async def test_items_are_sent_as_text_or_as_gone(world):
    text = "a fine item"
    item = Item(tenant="default", item_id="known", text=text)
    vector = ItemVector(item=item, item_hash=1, text_digest=text_digest(text))
    world.catalogue.apply(b"default/known", vector.SerializeToString(), 0, 0)

    def answer(user, request):
        if request.items:
            return world.encoder.ok(user, request)
        wanted = [*recent_items(user), RecentItem(item_id="deleted", text_digest=99)]
        return UserResult(status=RESULT_STATUS_NEED_ITEMS, need_items=wanted)

    await world.start()
    world.encoder.answer = answer
    world.event("ann", "known")

    await settle(lambda: world.outbox.records)
    first, second = world.encoder.requests
    assert first.users[0].recent_text_digests[0] == text_digest(text)
    assert [t.text for t in second.items] == [text]
    assert [(i.item_id, i.text_digest) for i in second.item_gone] == [("deleted", 99)]


def know(world, *item_ids):
    for item_id in item_ids:
        item = Item(tenant="default", item_id=item_id, text=item_id)
        vector = ItemVector(item=item, item_hash=1, text_digest=text_digest(item_id))
        world.catalogue.apply(f"default/{item_id}".encode(), vector.SerializeToString(), 0, 0)


async def test_an_encoder_that_forgets_between_rounds_gets_all_texts_at_once(world):
    know(world, "one", "two")
    known = {"two"}

    def answer(user, request):
        sent = {text.item_id for text in request.items}
        lacking = [item for item in recent_items(user) if item.item_id not in known | sent]
        known.clear()
        known.update(sorted(sent)[-1:])  # has room for one
        if lacking:
            return UserResult(status=RESULT_STATUS_NEED_ITEMS, need_items=lacking)
        return world.encoder.ok(user, request)

    await world.start()
    world.encoder.gate.clear()
    world.event("ann", "one")
    world.event("ann", "two")
    world.encoder.answer = answer
    world.encoder.gate.set()

    await settle(lambda: world.outbox.records and world.outbox.states()[-1].n_events == 2)
    assert [text.item_id for text in world.encoder.requests[-1].items] == ["one", "two"]


async def test_texts_beyond_one_call_go_into_the_next(world, monkeypatch):
    monkeypatch.setattr("stream.exchange.MAX_TEXTS", 2)
    item_ids = [f"item-{n}" for n in range(5)]
    know(world, *item_ids)

    def answer(user, request):
        assert len(request.items) <= 2
        sent = {text.item_id for text in request.items}
        lacking = [item for item in recent_items(user) if item.item_id not in sent]
        if lacking:
            return UserResult(status=RESULT_STATUS_NEED_ITEMS, need_items=lacking)
        return world.encoder.ok(user, request)

    await world.start()
    world.encoder.gate.clear()
    for n, item_id in enumerate(item_ids):
        world.event(f"user-{n}", item_id)
    world.encoder.answer = answer
    world.encoder.gate.set()

    await settle(lambda: len({state.user_id for state in world.outbox.states()}) == 5)


async def test_stale_model_is_renewed_and_the_state_cut_anew(world):
    await world.start()

    def answer(user, request):
        if user.model_version != "m-2":
            return UserResult(status=RESULT_STATUS_STALE_MODEL)
        return world.encoder.ok(user, request)

    world.encoder.answer, world.encoder.version = answer, "m-2"
    world.event("ann")

    await settle(lambda: world.outbox.records)
    assert world.outbox.states()[0].interests.model_version == "m-2"


async def test_encoder_that_says_stale_without_another_model_is_not_asked_in_circles(world):
    await world.start()
    world.encoder.answer = lambda user, request: UserResult(status=RESULT_STATUS_STALE_MODEL)
    world.event("ann")

    await asyncio.sleep(0.5)

    assert 1 <= len(world.encoder.requests) <= 8


async def test_crowd_gets_the_light_pass_and_is_refined_when_it_has_gone(tmp_path):
    world = World(tmp_path, light_above=3)
    await world.start()
    world.encoder.gate.clear()
    world.event("first")
    await settle(lambda: world.encoder.requests)
    for i in range(40):
        world.event(f"u{i}")
    world.encoder.gate.set()

    await settle(lambda: len(world.outbox.records) >= 41 + 32)

    tiers = [user.tier for user in world.encoder.requests[1].users]
    assert tiers == [TIER_LIGHT] * 32
    newest = {state.user_id: state.interests.tier for state in world.outbox.states()}
    assert set(newest.values()) == {TIER_REFINED}
    world.running.cancel()
    world.blocks.close()


async def test_while_events_wait_to_be_folded_open_feeds_go_on_and_the_others_one_call_at_a_time(
    tmp_path,
):
    world = World(tmp_path, requests_in_flight=4)
    await world.start()
    world.refresher.fold_is_behind(True)
    world.open_feed("reader")
    world.encoder.gate.clear()
    world.event("ann")
    await settle(lambda: world.encoder.requests)

    world.event("bob")
    world.event("reader")
    await settle(lambda: len(world.encoder.requests) == 2)
    await asyncio.sleep(0.05)
    assert world.encoder.users() == [["ann"], ["reader"]]

    world.encoder.gate.set()
    await settle(lambda: len(world.outbox.records) == 3)
    assert world.encoder.users() == [["ann"], ["reader"], ["bob"]], "he had to wait, not to starve"
    world.running.cancel()
    world.blocks.close()


async def test_the_others_rest_longer_than_they_work_until_the_fold_has_caught_up(tmp_path):
    world = World(tmp_path)
    await world.start()
    world.refresher.fold_is_behind(True)
    world.encoder.gate.clear()
    world.event("ann")
    await settle(lambda: world.encoder.requests)
    await asyncio.sleep(0.3)
    world.encoder.gate.set()
    await settle(lambda: len(world.outbox.records) == 1)

    world.event("bob")
    await asyncio.sleep(0.3)
    assert world.encoder.users() == [["ann"]]

    world.refresher.fold_is_behind(False)
    await settle(lambda: len(world.outbox.records) == 2)
    world.running.cancel()
    world.blocks.close()


async def test_user_without_events_needs_no_encoder(world):
    world.running = asyncio.create_task(world.refresher.run())  # no model was ever learnt
    user = world.partition.user(b"default/ann")
    user.head.watermark = 9
    world.refresher.touch(world.partition, user)

    await settle(lambda: world.outbox.records)

    (state,) = world.outbox.states()
    assert (state.applied_offset, state.encoded_offset) == (9, 9)
    assert not state.HasField("interests")
    await settle(lambda: world.partition.published(b"default/ann") is not None)


async def test_answer_for_a_user_who_was_erased_meanwhile_is_void(world):
    await world.start()
    world.encoder.gate.clear()
    world.event("ann")
    await settle(lambda: world.encoder.requests)
    user = world.partition.user(b"default/ann")
    erase(user.head, offset=50, accepted_ms=50)
    world.refresher.forget(world.partition, user)
    world.refresher.touch(world.partition, user)
    await settle(lambda: world.outbox.records)

    world.encoder.gate.set()
    await asyncio.sleep(0.05)

    (state,) = world.outbox.states()
    assert (state.erased, state.encoded_offset) == (True, 50)


async def test_answer_for_a_partition_that_went_away_is_void(world):
    await world.start()
    world.encoder.gate.clear()
    world.event("ann")
    await settle(lambda: world.encoder.requests)
    world.partition.is_open = False
    world.partitions.clear()
    await world.refresher.revoked()

    world.encoder.gate.set()
    await asyncio.sleep(0.05)

    assert world.outbox.records == []
