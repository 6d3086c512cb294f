"""Writes checkpoints to the table's changelog topic, in whole batches.

Order matters: a batch is handed over when the one before it of the same partition has left, and the
producer is idempotent, so what the broker has is always a prefix of what was written.
"""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder


class KafkaChangelog:
    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def append(self, partition: int, changes: Mapping[bytes, bytes | None]) -> int:
        """Write changes in order, wait for the broker, return the last offset.

        Raises:
            KafkaError: it is unknown how much of it arrived: a prefix.
        """
        assert changes, "a checkpoint without changes has no offset"
        deliveries: list[asyncio.Task[int]] = []
        batch = self._producer.create_batch()
        for key, value in changes.items():
            if batch.append(timestamp=None, key=key, value=value) is None:
                deliveries.append(await self._send(batch, partition))
                batch = self._producer.create_batch()
                added = batch.append(timestamp=None, key=key, value=value)
                assert added is not None, f"a value of {len(value or b'')} bytes fits no batch"
        deliveries.append(await self._send(batch, partition))
        offsets: list[int] = await asyncio.gather(*deliveries)
        return max(offsets)

    async def _send(self, batch: BatchBuilder, partition: int) -> "asyncio.Task[int]":
        batch.close()
        n_records: int = batch.record_count()
        future = await self._producer.send_batch(batch, self._topic, partition=partition)

        async def last_offset() -> int:
            base: int = (await future).offset
            return base + n_records - 1

        return asyncio.ensure_future(last_offset())
