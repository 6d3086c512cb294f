"""The whole stack, and one part of it killed after the other: a reader gets his feed all the same,
within his deadline, and is told what it is worth; when the part is back, so is the best answer.

The parts are killed as a machine would do it (SIGKILL); the stack's supervisor starts them again.
"""

import asyncio
import json
import time
from contextlib import suppress

import grpc
import psutil
import pytest

from infra.channels import aio_channel
from protos.rec.v1 import events_pb2, events_pb2_grpc, recommend_pb2, recommend_pb2_grpc
from tests.integration.whole_stack import freshet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DEADLINE_S = 2.0
BACK_S = 120.0
BEST = recommend_pb2.SOURCE_REFINED


@pytest.fixture
async def feeds(stack):
    async with aio_channel(stack.retrieval) as channel:
        yield recommend_pb2_grpc.RecommendServiceStub(channel)


@pytest.fixture
async def gateway(stack):
    async with aio_channel(stack.gateway) as channel:
        yield events_pb2_grpc.EventServiceStub(channel)


def kill(state, part):
    """Kill a part of the stack and all that it started, at once."""
    status = json.loads(freshet(state, "status", "--json", may_fail=True))
    (pid,) = [one["pid"] for one in status["parts"] if one["name"] == part]
    parent = psutil.Process(pid)
    for process in (*parent.children(recursive=True), parent):
        with suppress(psutil.NoSuchProcess):
            process.kill()


async def recommend(feeds, user_id, **fields):
    """Return a feed and the seconds that it took."""
    request = recommend_pb2.RecommendRequest(
        query=recommend_pb2.FeedQuery(user_id=user_id, n=20), **fields
    )
    start = time.monotonic()
    feed = (await feeds.Recommend(request, timeout=DEADLINE_S)).feed
    return feed, time.monotonic() - start


async def is_best_again(feeds, user_id):
    end = time.monotonic() + BACK_S
    feed = None
    while time.monotonic() < end:
        with suppress(grpc.aio.AioRpcError):
            feed, _ = await recommend(feeds, user_id)
            if feed.source == BEST and not feed.degraded_reason:
                return True
        await asyncio.sleep(0.5)
    raise AssertionError(f"not the best feed again within {BACK_S:.0f} s: {feed}")


async def published(gateway, user_id, item_id):
    """Publish until the gateway takes it; return the receipt."""
    event = events_pb2.Event(event_id=f"outage-{item_id}", item_id=item_id, action="like")
    request = events_pb2.PublishRequest(user_id=user_id, events=[event])
    refused = []
    while len(refused) < BACK_S * 2:
        try:
            return (await gateway.Publish(request, timeout=10)).receipt
        except grpc.aio.AioRpcError as error:
            refused.append(error.code())
            await asyncio.sleep(0.5)
    raise AssertionError(f"the gateway did not take an event: {refused[-1]}")


async def test_without_milvus_what_is_trending_is_shown_and_said(stack_state, feeds, busy_user):
    await asyncio.to_thread(kill, stack_state, "milvus")

    for _ in range(5):
        feed, seconds = await recommend(feeds, busy_user)
        assert seconds < DEADLINE_S
        assert feed.source == recommend_pb2.SOURCE_TRENDING
        assert len(feed.items) == 20
        assert "Milvus" in feed.degraded_reason

    assert await is_best_again(feeds, busy_user)


async def test_without_an_encoder_the_last_interests_serve_and_nothing_is_lost(
    stack_state, feeds, gateway, busy_user
):
    best, _ = await recommend(feeds, busy_user)
    await asyncio.to_thread(kill, stack_state, "encoder")
    receipt = await published(gateway, busy_user, best.items[0].item_id)

    feed, seconds = await recommend(feeds, busy_user, after=receipt)
    session = [events_pb2.Event(item_id=best.items[1].item_id, action="click")]
    stranger, _ = await recommend(feeds, "nobody knows him", session=session)

    assert seconds < DEADLINE_S
    assert len(feed.items) == 20
    if not feed.includes_receipt:  # unless the encoder came back within the deadline
        assert feed.source == recommend_pb2.SOURCE_LAST_KNOWN
        assert "deadline" in feed.degraded_reason
    assert len(stranger.items) == 20
    assert stranger.source in (recommend_pb2.SOURCE_TRENDING, recommend_pb2.SOURCE_SESSION)
    end = time.monotonic() + BACK_S
    while not feed.includes_receipt and time.monotonic() < end:
        feed, _ = await recommend(feeds, busy_user, after=receipt)
    assert feed.includes_receipt
    assert best.items[0].item_id not in [item.item_id for item in feed.items]


async def test_without_kafka_feeds_are_served_and_events_are_taken_once_it_is_back(
    stack_state, feeds, gateway, busy_user
):
    best, _ = await recommend(feeds, busy_user)
    await asyncio.to_thread(kill, stack_state, "kafka")

    for _ in range(5):
        feed, seconds = await recommend(feeds, busy_user)
        assert seconds < DEADLINE_S
        assert feed.source == BEST
        assert len(feed.items) == 20

    receipt = await published(gateway, busy_user, best.items[2].item_id)
    end = time.monotonic() + BACK_S
    feed.includes_receipt = False
    while not feed.includes_receipt and time.monotonic() < end:
        with suppress(grpc.aio.AioRpcError):
            feed, _ = await recommend(feeds, busy_user, after=receipt)
    assert feed.includes_receipt
    assert best.items[2].item_id not in [item.item_id for item in feed.items]


async def test_a_retrieval_process_that_is_killed_serves_from_its_disk(
    stack_state, feeds, busy_user
):
    before, _ = await recommend(feeds, busy_user)
    await asyncio.to_thread(kill, stack_state, "retrieval")

    assert await is_best_again(feeds, busy_user)
    after, _ = await recommend(feeds, busy_user)
    assert [item.item_id for item in after.items] == [item.item_id for item in before.items]
