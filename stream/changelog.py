"""Writes checkpoints to the table's changelog topic, in whole batches, as its partitions' only
writer.

Order matters: a batch is handed over when the one before it of the same partition has left, and the
producer is idempotent, so what the broker has is always a prefix of what was written.

Fencing. A worker that is paused past its session (a zombie) wakes up believing that it owns its
partitions, and its heads are older than those of its successor. So a worker *claims* a partition
before it recovers it:

    1  InitProducerId for the transactional id of the partition: the coordinator gives the same
       producer id with the next epoch
    2  one record with that epoch to the partition: from then on its leader refuses any batch of an
       older epoch (INVALID_PRODUCER_EPOCH), so nothing can follow what recovery is about to read

That is Kafka's own fencing of transactional producers, but no transaction is ever opened: a torn
checkpoint is harmless as it is (stream/partition.py), and each transaction would end with a control
record that faust's recovery waits for in vain (docs/log.md).
"""

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder

from stream.kafka_clients import claiming_producer
from stream.store import CLAIM_KEY


class Fenced(Exception):
    """Another worker has claimed the partition since; this one must end."""


class KafkaChangelog:
    def __init__(self, bootstrap: str, topic: str, owner: str) -> None:
        """
        Args:
            owner: of the claims, for people who read them.
        """
        self._bootstrap, self._topic, self._owner = bootstrap, topic, owner
        self._producers: dict[int, AIOKafkaProducer] = {}

    async def claim(self, partitions: Iterable[int]) -> None:
        """Become the only writer of these partitions, and let go of all others.

        Claims anew what it had: somebody else may have had it in between. Returns once no older
        owner can write any more. Raises KafkaError.
        """
        await self.close()
        await asyncio.gather(*map(self._claim, partitions))

    async def _claim(self, partition: int) -> None:
        client_id = f"{self._owner}-{self._topic}-{partition}"
        producer = await claiming_producer(self._bootstrap, client_id, f"{self._topic}-{partition}")
        self._producers[partition] = producer
        await self.append(partition, {CLAIM_KEY: self._owner.encode()})

    async def close(self) -> None:
        producers, self._producers = self._producers, {}
        await asyncio.gather(*(producer.stop() for producer in producers.values()))

    async def append(self, partition: int, changes: Mapping[bytes, bytes | None]) -> int:
        """Write changes in order, wait for the broker, return the last offset.

        Raises:
            Fenced: the partition has another owner; nothing more of this one's arrives.
            KafkaError: it is unknown how much of it arrived: a prefix.
        """
        assert changes, "a checkpoint without changes has no offset"
        producer = self._producers[partition]
        deliveries: list[asyncio.Task[int]] = []
        batch = producer.create_batch()
        for key, value in changes.items():
            if batch.append(timestamp=None, key=key, value=value) is None:
                deliveries.append(await self._send(producer, batch, partition))
                batch = producer.create_batch()
                added = batch.append(timestamp=None, key=key, value=value)
                assert added is not None, f"a value of {len(value or b'')} bytes fits no batch"
        deliveries.append(await self._send(producer, batch, partition))
        try:
            offsets: list[int] = await asyncio.gather(*deliveries)
        except ProducerFenced as error:
            raise Fenced(
                f"partition {partition} of {self._topic} has another owner; was this process "
                "paused? Start it again"
            ) from error
        return max(offsets)

    async def _send(
        self, producer: AIOKafkaProducer, batch: BatchBuilder, partition: int
    ) -> "asyncio.Task[int]":
        batch.close()
        n_records: int = batch.record_count()
        future = await producer.send_batch(batch, self._topic, partition=partition)

        async def last_offset() -> int:
            base: int = (await future).offset
            return base + n_records - 1

        return asyncio.ensure_future(last_offset())
