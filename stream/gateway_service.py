"""EventService and ItemService: judge, hand over to Kafka, wait for its word, answer.

Nothing is kept here. A call waits no longer than its caller's deadline or the gateway's own limit,
whichever is shorter, and what waits for Kafka is bounded: beyond that a call is refused with
RESOURCE_EXHAUSTED and a hint when to come again (a stream is read more slowly instead).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

import grpc.aio
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from tenacity import AsyncRetrying

from infra.grpc_server import Service
from infra.metrics import LATENCY_BUCKETS_S
from protos.errors import InvalidInput, Overloaded, TooLate
from protos.rec.v1 import events_pb2, events_pb2_grpc, items_pb2, items_pb2_grpc
from protos.rec.v1.events_pb2 import EventBatch, Receipt
from stream.admission import (
    AdmittedItems,
    StreamTally,
    admit_deletions,
    admit_events,
    admit_items,
)
from stream.delivery import Client, Deadline, Delivery, confirmed
from stream.item_publisher import ItemPublisher
from stream.producer import Producer, make_erasure, now_ms, repeating
from stream.validity import EventNames

T = TypeVar("T")
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]  # messages differ by method

MAX_STREAM_PENDING = 256
"""Records of one stream that wait for Kafka; then the stream is read no further."""
ANSWER_MARGIN_S = 0.05
"""Kept of the caller's deadline, so that our status arrives before the deadline does."""


class GatewayMetrics:
    """Built once in main(), so that importing this registers nothing."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.events = Counter(
            "freshet_gateway_events", "Events: accepted, refused", ["outcome"], registry=registry
        )
        self.items = Counter(
            "freshet_gateway_items", "Items: accepted, refused", ["outcome"], registry=registry
        )
        self.kafka_seconds = Histogram(
            "freshet_gateway_kafka_seconds",
            "From handing a record over to the broker's word",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.bytes_in_flight = Gauge(
            "freshet_gateway_in_flight_bytes", "Bytes that wait for Kafka", registry=registry
        )


def build_services(
    producer: Producer, items: ItemPublisher, metrics: GatewayMetrics, limit_s: float
) -> list[Service]:
    """Return both services, ready for a GrpcServer."""
    events = EventServicer(producer, metrics, limit_s)
    catalogue = ItemServicer(items, metrics, limit_s)
    return [
        Service(
            "rec.v1.EventService",
            lambda server: events_pb2_grpc.add_EventServiceServicer_to_server(events, server),
        ),
        Service(
            "rec.v1.ItemService",
            lambda server: items_pb2_grpc.add_ItemServiceServicer_to_server(catalogue, server),
        ),
    ]


class EventServicer(events_pb2_grpc.EventServiceServicer):
    def __init__(self, producer: Producer, metrics: GatewayMetrics, limit_s: float) -> None:
        self._producer, self._metrics, self._limit_s = producer, metrics, limit_s
        self._names = EventNames()

    async def Publish(
        self, request: events_pb2.PublishRequest, context: Context
    ) -> events_pb2.PublishResponse:
        deadline = call_deadline(context, self._limit_s)
        admitted = admit_events(request, now_ms(), self._names)
        response = events_pb2.PublishResponse(results=admitted.results)
        n_accepted = len(admitted.batch.events)
        if n_accepted:
            response.receipt.CopyFrom(await self._deliver(admitted.batch, deadline))
        self._count(n_accepted, len(admitted.results) - n_accepted)
        return response

    async def PublishStream(
        self, requests: AsyncIterator[events_pb2.PublishStreamRequest], context: Context
    ) -> events_pb2.PublishStreamResponse:
        tally = StreamTally()
        pending: deque[tuple[int, Delivery]] = deque()

        async def settle_oldest() -> None:
            n_events, delivery = pending.popleft()
            tally.accept(n_events, await confirmed(delivery, Deadline(self._limit_s)))
            self._count(n_events, 0)

        index = 0
        async for request in requests:
            try:
                admitted = admit_events(request.publish, now_ms(), self._names)
            except InvalidInput as error:
                tally.refuse_whole(index, len(request.publish.events), str(error))
                self._count(0, len(request.publish.events))
            else:
                tally.refuse(index, admitted.results)
                n_accepted = len(admitted.batch.events)
                self._count(0, len(admitted.results) - n_accepted)
                if n_accepted:
                    delivery = await self._send_patiently(admitted.batch, pending, settle_oldest)
                    pending.append((n_accepted, delivery))
            if len(pending) >= MAX_STREAM_PENDING:
                await settle_oldest()
            index += 1
        while pending:
            await settle_oldest()
        return tally.response()

    async def EraseUser(
        self, request: events_pb2.EraseUserRequest, context: Context
    ) -> events_pb2.EraseUserResponse:
        deadline = call_deadline(context, self._limit_s)
        batch = make_erasure(request.tenant, request.user_id, request.reason)
        return events_pb2.EraseUserResponse(receipt=await self._deliver(batch, deadline))

    async def _deliver(self, batch: EventBatch, deadline: Deadline) -> Receipt:
        """Send, wait, and repeat while Kafka fails: the event_ids make that harmless."""

        async def attempt() -> Receipt:
            await warmed(self._producer)
            with self._metrics.kafka_seconds.time():
                return await confirmed(self._producer.send(batch, wait_s=0), deadline)

        return await repeating(AsyncRetrying, deadline)(attempt)

    async def _send_patiently(
        self,
        batch: EventBatch,
        pending: Sequence[object],
        settle_oldest: Callable[[], Awaitable[None]],
    ) -> Delivery:
        """Send when there is room; meanwhile settle what this stream has on its way."""
        deadline = Deadline(self._limit_s)
        while True:
            await warmed(self._producer)
            try:
                return self._producer.send(batch, wait_s=0)
            except Overloaded as error:
                if not deadline.remaining_s():
                    raise
                if pending:
                    await settle_oldest()
                else:
                    await asyncio.sleep(min(error.retry_after_s, deadline.remaining_s()))

    def _count(self, n_accepted: int, n_refused: int) -> None:
        self._metrics.events.labels("accepted").inc(n_accepted)
        self._metrics.events.labels("refused").inc(n_refused)


class ItemServicer(items_pb2_grpc.ItemServiceServicer):
    def __init__(self, items: ItemPublisher, metrics: GatewayMetrics, limit_s: float) -> None:
        self._items, self._metrics, self._limit_s = items, metrics, limit_s

    async def UpsertItems(
        self, request: items_pb2.UpsertItemsRequest, context: Context
    ) -> items_pb2.UpsertItemsResponse:
        deadline = call_deadline(context, self._limit_s)
        admitted = admit_items(request.tenant, request.items)
        await warmed(self._items)
        sent = [
            self._items.upsert_nowait(request.items[place], tenant=admitted.tenant, wait_s=0)
            for place in admitted.accepted
        ]
        await self._settle(sent, admitted, deadline)
        return items_pb2.UpsertItemsResponse(results=admitted.results)

    async def DeleteItems(
        self, request: items_pb2.DeleteItemsRequest, context: Context
    ) -> items_pb2.DeleteItemsResponse:
        deadline = call_deadline(context, self._limit_s)
        admitted = admit_deletions(request.tenant, request.item_ids)
        await warmed(self._items)
        sent = [
            self._items.delete_nowait(request.item_ids[place], tenant=admitted.tenant, wait_s=0)
            for place in admitted.accepted
        ]
        await self._settle(sent, admitted, deadline)
        return items_pb2.DeleteItemsResponse(results=admitted.results)

    async def _settle(
        self, sent: Sequence[Future[T]], admitted: AdmittedItems, deadline: Deadline
    ) -> None:
        for delivery in sent:
            await confirmed(delivery, deadline)
        self._metrics.items.labels("accepted").inc(len(sent))
        self._metrics.items.labels("refused").inc(len(admitted.results) - len(sent))


def call_deadline(context: Context, limit_s: float) -> Deadline:
    """Return by when a call must be answered. Raises TooLate when that is now."""
    remaining_s = context.time_remaining()
    if remaining_s is None:
        return Deadline(limit_s)
    if remaining_s <= ANSWER_MARGIN_S:
        raise TooLate(f"less than {ANSWER_MARGIN_S * 1000:.0f} ms were left; allow more time")
    return Deadline(min(limit_s, remaining_s - ANSWER_MARGIN_S))


async def warmed(client: Client) -> None:
    """See that handing over to Kafka will not hold up the event loop. Raises DependencyDown."""
    if not client.is_warm:
        await asyncio.to_thread(client.warm)
