"""StreamFeed over a real grpc.aio server."""

import asyncio
import time

import grpc
import grpc.aio
import pytest

from protos.errors import DependencyDown
from protos.rec.v1.interests_pb2 import Cause, Hop, OpenFeed
from protos.rec.v1.recommend_pb2 import FeedQuery, Source, StreamFeedRequest
from retrieval.interests import user_key
from retrieval.live import LiveFeed
from retrieval.queries import Query
from retrieval.turns import Rank, Turns
from tests.retrieval.recommending import served
from tests.retrieval.retrieval_world import World, interests, state, unit

X, Y = unit(1, 0, 0, 0), unit(0, 1, 0, 0)
HOPS = ("accepted", "folded", "requested", "encoded", "published")


def fill(world: World) -> None:
    for row in range(4):
        world.add_item(f"x{row}", unit(1, 0, 0.1 * row, 0))
        world.add_item(f"y{row}", unit(0, 1, 0, 0.1 * row))
    world.add_trending(("x3", 9.0), ("y3", 8.0))


def caused(offset: int, vector) -> object:
    """A state that an event just made."""
    now_ms = time.time_ns() // 1_000_000
    made = state("u", offset, interests(vector))
    made.cause.CopyFrom(Cause(event_id=f"e{offset}", offset=offset, accepted_ms=now_ms - 30))
    made.hops.extend(
        Hop(name=name, at_us=(now_ms - 30) * 1000 + 5000 * at) for at, name in enumerate(HOPS)
    )
    return made


def watch(stub, resume_token="", **fields):
    query = FeedQuery(**{"user_id": "u", "n": 2} | fields)
    return stub.StreamFeed(StreamFeedRequest(query=query, resume_token=resume_token))


def ids(push):
    return [item.item_id for item in push.feed.items]


async def test_the_feed_comes_now_and_again_when_the_interests_change(world, stub):
    fill(world)
    world.add_user(caused(1, X))
    call = watch(stub)
    first = await call.read()

    await asyncio.to_thread(world.add_user, caused(2, Y))
    second = await call.read()

    assert (ids(first), ids(second)) == (["x0", "x1"], ["y0", "y1"])
    assert (first.sequence, first.since_event_ms, second.sequence) == (0, 0, 1)
    assert (second.cause.event_id, second.feed.encoded_offset) == ("e2", 2)
    assert 30 <= second.since_event_ms < 5000
    assert [hop.name for hop in second.hops] == [*HOPS, "received", "searched", "pushed"]
    assert [hop.at_us for hop in second.hops] == sorted(hop.at_us for hop in second.hops)


async def test_a_reader_who_comes_back_is_not_sent_what_he_shows_already(world, stub):
    fill(world)
    world.add_user(caused(1, X))
    shown = await watch(stub).read()

    again = watch(stub, resume_token=shown.resume_token)
    first = await again.read()
    await asyncio.to_thread(world.add_user, caused(2, Y))
    second = await again.read()

    assert first.heartbeat
    assert not first.HasField("feed")
    assert (ids(second), second.sequence) == (["y0", "y1"], 0)


async def test_a_reader_who_comes_back_late_or_with_a_poor_feed_gets_the_latest(world, stub):
    fill(world)
    world.add_user(caused(1, X))
    old = await watch(stub).read()
    world.add_user(caused(2, Y))
    assert ids(await watch(stub, resume_token=old.resume_token).read()) == ["y0", "y1"]

    world.index.failure = DependencyDown("Milvus is away")
    poor = await watch(stub).read()
    world.index.failure = None

    assert poor.feed.degraded_reason
    assert ids(await watch(stub, resume_token=poor.resume_token).read()) == ["y0", "y1"]


async def test_a_user_without_events_sees_trending_then_the_first_real_feed(world, stub):
    fill(world)
    call = watch(stub)
    first = await call.read()

    world.add_user(caused(1, X))
    second = await call.read()

    assert (first.feed.source, first.HasField("cause")) == (Source.SOURCE_TRENDING, False)
    assert second.feed.source == Source.SOURCE_REFINED


async def test_a_slow_reader_skips_states_and_gets_the_latest(world, stub):
    fill(world)
    world.add_user(caused(1, X))
    request = StreamFeedRequest(query=FeedQuery(user_id="u", n=2), min_interval_ms=300)
    call = stub.StreamFeed(request)
    await call.read()
    for offset in range(2, 12):
        world.add_user(caused(offset, X if offset % 2 else Y))
        await asyncio.sleep(0.01)

    second = await call.read()

    assert (second.sequence, second.feed.encoded_offset) == (1, 11)


async def test_an_open_feed_costs_nothing_while_nothing_changes(world, stub):
    fill(world)
    world.add_user(caused(1, X))
    call = watch(stub)
    await call.read()
    world.add_user(caused(2, Y))
    await call.read()
    n_searches = len(world.index.limits)

    await asyncio.sleep(0.1)

    assert len(world.index.limits) == n_searches == 2


async def test_trending_that_moves_reaches_who_still_sees_trending(world, stub, monkeypatch):
    monkeypatch.setattr("retrieval.live.TRENDING_INTERVAL_S", 0.05)
    fill(world)
    call = watch(stub)
    assert ids(await call.read()) == ["x3", "y3"]

    world.add_trending(("y3", 10.0), ("x3", 9.0))

    assert ids(await call.read()) == ["y3", "x3"]


def live(world: World, turns: Turns, **settings) -> LiveFeed:
    query = Query("default", "u", 2)
    return LiveFeed(query, world.users, world.recommender, world.changes, turns, **settings)


async def test_when_nothing_changes_a_heartbeat_says_so(world):
    fill(world)
    world.add_user(caused(1, X))
    feed = live(world, Turns(1), heartbeat_s=0.05)
    closing, seen = asyncio.Event(), []

    async for push in feed.pushes(closing):
        seen.append(push)
        if len(seen) == 3:
            break

    assert [push.heartbeat for push in seen] == [False, True, True]
    assert not seen[1].HasField("feed")


async def test_whoever_waits_for_his_turn_is_shown_what_is_trending_and_then_his_own(world):
    fill(world)
    world.add_user(caused(1, X))
    turns = Turns(1)
    feed = live(world, turns, patience_s=0.01).pushes(asyncio.Event())
    with turns.asked(Rank.NEWS):  # somebody else has it
        first = await anext(feed)
        waiting = asyncio.create_task(anext(feed))
        await asyncio.sleep(0.05)
        assert not waiting.done()

    second = await asyncio.wait_for(waiting, 5)

    assert (ids(first), first.feed.source) == (["x3", "y3"], Source.SOURCE_TRENDING)
    assert first.feed.degraded_reason
    assert (ids(second), second.feed.degraded_reason) == (["x0", "x1"], "")
    assert second.since_event_ms == 0  # its event is older than the wait


async def test_a_reader_who_does_not_read_keeps_nobodys_turn(world):
    fill(world)
    world.add_user(caused(1, X))
    turns, closing = Turns(1), asyncio.Event()
    slow, other = live(world, turns).pushes(closing), live(world, turns).pushes(closing)

    await anext(slow)  # and never again

    assert ids(await asyncio.wait_for(anext(other), 5)) == ["x0", "x1"]


async def test_a_drain_ends_feeds_that_wait_for_their_turn(world):
    fill(world)
    turns, closing = Turns(1), asyncio.Event()
    with turns.asked(Rank.NEWS):
        waiting = asyncio.create_task(anext(live(world, turns).pushes(closing)))
        await asyncio.sleep(0.01)
        closing.set()
        turns.close()
        world.changes.announce([user_key("default", "u")])

        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(waiting, 5)


async def test_an_open_feed_is_announced_and_taken_back(world, stub):
    fill(world)
    first, second = watch(stub), watch(stub)
    await first.read()
    await second.read()
    key, value = world.notes.sent[0]
    assert (key, OpenFeed.FromString(value).user_id) == (b"default/u", "u")
    assert OpenFeed.FromString(value).expires_at_ms > time.time() * 1000

    first.cancel()
    second.cancel()
    await asyncio.wait_for(world.notes.taken_back.wait(), 5)

    assert world.notes.sent == [(key, value), (key, None)]


async def test_a_drain_ends_open_feeds_at_once(world, stub):
    fill(world)
    call = watch(stub)
    await call.read()

    await world.servicer.close()

    assert await asyncio.wait_for(call.read(), 5) is grpc.aio.EOF


async def test_too_many_open_feeds_are_turned_away(tmp_path):
    world = World(tmp_path, max_open_feeds=1)
    async with served(world) as stub:
        call = watch(stub)
        await call.read()

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch(stub).read()

    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    world.store.close()


@pytest.mark.parametrize(
    "request_",
    [
        StreamFeedRequest(),
        StreamFeedRequest(query=FeedQuery(user_id="u")),
        StreamFeedRequest(query=FeedQuery(user_id="u", n=100_000)),
        StreamFeedRequest(query=FeedQuery(user_id="u", n=1), min_interval_ms=60_001),
    ],
)
async def test_a_bad_question_is_refused(stub, request_):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.StreamFeed(request_).read()

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
