"""What the worker publishes, and the two ways to hand it to Kafka.

`send` is for what is derived and can be made again (interests, trending): its answer says when it
is durable. `emit` is for what must be durable before the offsets of its cause are committed (dead
letters, records sent to their right partition, seen segments, tombstones). It only queues, so that
fold and emission are one step that no checkpoint can come between; the checkpoint waits for
`settled`. Delivery is at least once: a crash between the two repeats it.

Idempotent, acks from all replicas, no linger: order is kept within a partition.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiokafka import AIOKafkaProducer

from stream.lease import Lease


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to write. `partition` None: by murmur2 of the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a durable record stands."""

    partition: int
    offset: int


class Outbox(Protocol):
    async def send(self, record: Outgoing) -> Awaitable[Sent]:
        """Hand over a record; the answer is its delivery."""

    def emit(self, records: Sequence[Outgoing]) -> None:
        """Queue records that `settled` waits for, in order."""

    async def push(self) -> None:
        """Hand over what is queued, without waiting for its delivery."""

    async def settled(self) -> None:
        """Wait until all that was emitted before is durable. Raises KafkaError."""


class KafkaOutbox:
    def __init__(self, producer: AIOKafkaProducer, lease: Lease) -> None:
        self._producer, self._lease = producer, lease
        self._queued: deque[Outgoing] = deque()
        self._on_the_way: list[asyncio.Future[Sent]] = []
        self._pushing = asyncio.Lock()

    async def send(self, record: Outgoing) -> "asyncio.Future[Sent]":
        self._lease.check()
        value = record.value
        if value is None and record.key is None:
            value = b""  # Kafka takes such a record, but no client library sends one
        future = await self._producer.send(
            record.topic,
            value,
            key=record.key,
            partition=record.partition,
            headers=list(record.headers),
        )
        return asyncio.ensure_future(_delivered(future))

    def emit(self, records: Sequence[Outgoing]) -> None:
        self._queued.extend(records)

    async def push(self) -> None:
        async with self._pushing:
            while self._queued:
                self._on_the_way.append(await self.send(self._queued.popleft()))

    async def settled(self) -> None:
        await self.push()
        on_the_way, self._on_the_way = self._on_the_way, []
        await asyncio.gather(*on_the_way)


async def _delivered(future: "asyncio.Future[object]") -> Sent:
    metadata = await future
    return Sent(metadata.partition, metadata.offset)  # type: ignore[attr-defined]  # no types
