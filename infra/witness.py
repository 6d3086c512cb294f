"""See one event change a feed, from outside: publish it by gRPC, watch StreamFeed, compare.

The demo, the benchmark `freshness` and the end-to-end test all look through this module; it knows
the protobuf contract and nothing of what serves it.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio

from infra.grpc_errors import from_rpc_error
from protos.errors import TooLate
from protos.rec.v1 import events_pb2, events_pb2_grpc, recommend_pb2, recommend_pb2_grpc


def moved_items(before: Sequence[str], after: Sequence[str], consumed: str) -> list[str]:
    """Return the items of `after` that moved by more than the consumed item's leaving explains.

    Without any effect but that one item was seen, the survivors keep their order and close the gap.
    What stands elsewhere, or is new above the end, has moved.
    """
    survivors = [item_id for item_id in before if item_id != consumed]
    return [new for old, new in zip(survivors, after, strict=False) if new != old]


@dataclass(frozen=True, slots=True)
class Push:
    """One message of a feed stream, and when it reached us (microseconds since the epoch)."""

    response: recommend_pb2.StreamFeedResponse
    received_us: int

    @property
    def item_ids(self) -> list[str]:
        return [item.item_id for item in self.response.feed.items]


class FeedWatch:
    """An open StreamFeed of one user, with what it has pushed so far."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.pushes: list[Push] = []
        self._changed = asyncio.Condition()

    async def follow(self, stub: recommend_pb2_grpc.RecommendServiceStub, n: int) -> None:
        """Read until cancelled."""
        query = recommend_pb2.FeedQuery(user_id=self.user_id, n=n)
        call = stub.StreamFeed(recommend_pb2.StreamFeedRequest(query=query))
        async for response in call:
            if response.heartbeat:
                continue
            async with self._changed:
                self.pushes.append(Push(response, time.time_ns() // 1000))
                self._changed.notify_all()

    async def first(self, deadline_s: float) -> Push:
        """Return the feed as it was when the stream was opened. Raises TooLate."""
        return await self._wait(lambda push: True, "at all", deadline_s)

    async def including(self, offset: int, deadline_s: float) -> Push:
        """Return the first push whose feed includes the record at `offset`. Raises TooLate."""
        return await self._wait(
            lambda push: push.response.feed.encoded_offset >= offset,
            f"that includes record {offset}",
            deadline_s,
        )

    async def _wait(self, wanted: Callable[[Push], bool], words: str, deadline_s: float) -> Push:
        def found() -> Push | None:
            return next(filter(wanted, self.pushes), None)

        try:
            async with asyncio.timeout(deadline_s), self._changed:
                await self._changed.wait_for(found)
        except TimeoutError as error:
            raise TooLate(
                f"no feed of user {self.user_id!r} {words} within {deadline_s:.0f} s; "
                "`freshet status` and `freshet logs` tell which process lags"
            ) from error
        push = found()
        assert push is not None
        return push


@asynccontextmanager
async def watch_feed(
    channel: grpc.aio.Channel, user_id: str, *, n: int = 20
) -> AsyncIterator[FeedWatch]:
    """Keep a StreamFeed open for the length of the block; its failure is the block's failure."""
    watch = FeedWatch(user_id)
    stub = recommend_pb2_grpc.RecommendServiceStub(channel)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(watch.follow(stub, n))
            yield watch
            task.cancel()
    except ExceptionGroup as failures:  # not except*: what that raises is a group again
        error = failures.exceptions[0]
        if isinstance(error, grpc.aio.AioRpcError):
            raise from_rpc_error(error, "the recommender") from error
        raise error from None


async def publish(
    channel: grpc.aio.Channel, user_id: str, item_id: str, action: str, *, deadline_s: float = 10
) -> tuple[events_pb2.Receipt, str]:
    """Publish one event through the gateway; return its receipt and its event_id."""
    event = events_pb2.Event(
        event_id=str(uuid.uuid4()),
        item_id=item_id,
        action=action,
        event_time_ms=time.time_ns() // 1_000_000,
    )
    request = events_pb2.PublishRequest(user_id=user_id, events=[event])
    try:
        stub = events_pb2_grpc.EventServiceStub(channel)
        response = await stub.Publish(request, timeout=deadline_s)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, "the gateway") from error
    return response.receipt, event.event_id
