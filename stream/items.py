"""New and changed items through the encoder: rec.items -> EncodeItems -> rec.item-vectors.

A consumer of its own, in a group of its own with static membership, so that a slow or absent
encoder holds up no event. Offsets are committed when the vectors are durable: at least once, and
encoding an item again changes nothing. While the encoder is down it waits, and nothing is lost.

With a new model the items that lack its embedding are encoded again, from rec.item-vectors itself;
the embedding before it stays, because feeds move over one user at a time. Within a codebook version
an item keeps the codes that it was first given: histories have them already.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from google.protobuf.message import DecodeError
from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from infra.kafka_topics import Topics
from protos.errors import FreshetError, TooLate
from protos.keys import DEFAULT_TENANT, compose_key, item_hash, item_text
from protos.rec.v1.encoder_pb2 import EncodedItem, EncodeItemsResponse, ItemText
from protos.rec.v1.items_pb2 import Item, ItemCodes, ItemVector
from stream.catalogue import Catalogue
from stream.metrics import WorkerMetrics
from stream.outbox import Outbox, Outgoing

log = structlog.get_logger(__name__)

BATCH = 256
N_KEPT_EMBEDDINGS = 2
_POLL_MS = 200


class ItemRecord(Protocol):
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


class Encoder(Protocol):
    async def encode_items(self, items: Sequence[ItemText]) -> EncodeItemsResponse: ...


class ItemEncoder:
    def __init__(
        self,
        *,
        encoder: Encoder,
        catalogue: Catalogue,
        outbox: Outbox,
        topics: Topics,
        metrics: WorkerMetrics,
        model_version: Callable[[], str | None],
        new_consumer: Callable[[], AIOKafkaConsumer],
        new_reader: Callable[[], AIOKafkaConsumer],
    ) -> None:
        """
        Args:
            model_version: what the encoder serves; None until it has answered.
            new_consumer: makes the consumer of rec.items, in its group.
            new_reader: makes one without a group.
        """
        self._encoder, self._catalogue, self._outbox = encoder, catalogue, outbox
        self._topics, self._metrics, self._model_version = topics, metrics, model_version
        self._new_consumer, self._new_reader = new_consumer, new_reader
        self._renewed: set[tuple[str, int]] = set()
        """(model version, partition) that were looked through."""

    async def run(self) -> None:
        """Encode for ever. The catalogue is loaded before."""
        consumer = self._new_consumer()
        await consumer.start()
        try:
            while True:
                found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=BATCH)
                records = [record for some in found.values() for record in some]
                if records:
                    await self.encode(records)
                    await consumer.commit()
                await self._renew(consumer.assignment())
        finally:
            await consumer.stop()

    async def encode(self, records: Sequence[ItemRecord]) -> None:
        """Publish the vectors of a batch; returns when they are durable."""
        newest = {record.key: record for record in records if record.key}
        items: list[Item] = []
        for key, record in newest.items():
            if record.value is None:
                self._metrics.items.labels("deleted").inc()
                await self._publish(key, None)
            elif (item := self._read(key, record)) is not None:
                items.append(item)
        await self._encode_items(items)

    def _read(self, key: bytes, record: ItemRecord) -> Item | None:
        try:
            item = Item.FromString(record.value or b"")
        except DecodeError:
            self._refuse("garbage", key, "the value is no Item")
            return None
        item.tenant = item.tenant or DEFAULT_TENANT
        if compose_key(item.tenant, item.item_id) != key:
            self._refuse("garbage", key, "the key is not tenant/item of the value")
            return None
        if not item_text(item.title, item.text):
            self._refuse("no_text", key, "neither text nor title; it cannot be recommended")
            return None
        return item

    async def _encode_items(self, items: Sequence[Item]) -> None:
        if not items:
            return
        texts = [
            ItemText(tenant=i.tenant, item_id=i.item_id, text=item_text(i.title, i.text))
            for i in items
        ]
        try:
            response = await self._ask(texts)
        except FreshetError as error:
            await self._encode_halves(items, error)
            return
        for item, encoded in zip(items, response.items, strict=True):
            await self._publish_encoded(item, encoded)

    async def _ask(self, texts: Sequence[ItemText]) -> EncodeItemsResponse:
        """Ask until the encoder answers: what a retry may cure is retried for ever."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        ):
            with attempt:
                return await self._encoder.encode_items(texts)
        raise AssertionError("it retries for ever")

    async def _encode_halves(self, items: Sequence[Item], error: FreshetError) -> None:
        """Find the item that a batch was refused for."""
        if len(items) == 1:
            key = compose_key(items[0].tenant, items[0].item_id)
            self._refuse("refused", key, str(error))
            return
        middle = len(items) // 2
        await self._encode_items(items[:middle])
        await self._encode_items(items[middle:])

    async def _publish_encoded(self, item: Item, encoded: EncodedItem) -> None:
        key = compose_key(item.tenant, item.item_id)
        if encoded.reason:
            self._refuse("refused", key, encoded.reason)
            return
        vector = ItemVector(
            item=item,
            item_hash=item_hash(item.tenant, item.item_id),
            text_digest=encoded.text_digest,
            embeddings=[encoded.embedding],
            codes=[self._stable_codes(key, encoded.codes)],
        )
        await self._publish(key, vector)
        self._metrics.items.labels("encoded").inc()

    def _stable_codes(self, key: bytes, codes: ItemCodes) -> ItemCodes:
        known = self._catalogue.get(key)
        for version, kept in known.codes if known is not None else ():
            if version == int(codes.codebook_version, 16):
                return ItemCodes(codebook_version=codes.codebook_version, codes=kept)
        return codes

    async def _publish(self, key: bytes, vector: ItemVector | None) -> None:
        value = None if vector is None else vector.SerializeToString()
        sent = await (await self._outbox.send(Outgoing(self._topics.item_vectors, key, value)))
        # Not left to the follower: the next batch must see the codes that were just given.
        self._catalogue.apply(key, value, sent.partition, sent.offset)

    def _refuse(self, outcome: str, key: bytes, why: str) -> None:
        self._metrics.items.labels(outcome).inc()
        log.warning("item_refused", key=key.decode(errors="replace"), outcome=outcome, why=why)

    # -- a new model ---------------------------------------------------------------------------

    async def _renew(self, assignment: set[TopicPartition]) -> None:
        version = self._model_version()
        if version is None:
            return
        for number in sorted(partition.partition for partition in assignment):
            if (version, number) not in self._renewed:
                if self._catalogue.n_lacking(version, number):
                    await self._renew_partition(version, number)
                self._renewed.add((version, number))

    async def _renew_partition(self, version: str, number: int) -> None:
        """Encode a partition's items again that lack the model's embedding.

        rec.items and rec.item-vectors have the same keys and partition counts, so whoever owns
        the one may write the other.
        """
        partition = TopicPartition(self._topics.item_vectors, number)
        log.info("items_lack_model", version=version, partition=number)
        consumer = self._new_reader()
        await consumer.start()
        try:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=BATCH)
                for records in found.values():
                    await self.renew(records, version)
        finally:
            await consumer.stop()

    async def renew(self, records: Sequence[ItemRecord], version: str) -> None:
        """Encode again those records of rec.item-vectors that are the newest of their item and
        lack the model."""
        stale: dict[bytes, ItemVector] = {}
        for record in records:
            known = self._catalogue.get(record.key or b"")
            if known is None or known.offset != record.offset or known.model_version == version:
                continue
            stale[known.key] = ItemVector.FromString(record.value or b"")
        if not stale:
            return
        texts = [
            ItemText(
                tenant=v.item.tenant,
                item_id=v.item.item_id,
                text=item_text(v.item.title, v.item.text),
            )
            for v in stale.values()
        ]
        response = await self._ask(texts)
        for (key, vector), encoded in zip(stale.items(), response.items, strict=True):
            if encoded.reason:
                self._refuse("refused", key, encoded.reason)
                continue
            await self._publish(key, self._merged(key, vector, encoded))
            self._metrics.items.labels("encoded").inc()

    def _merged(self, key: bytes, before: ItemVector, encoded: EncodedItem) -> ItemVector:
        """Return a vector with the new embedding last, and the newest ones before it."""
        merged = ItemVector()
        merged.CopyFrom(before)
        model = encoded.embedding.model_version
        others = [e for e in before.embeddings if e.model_version != model]
        del merged.embeddings[:]
        merged.embeddings.extend([*others[1 - N_KEPT_EMBEDDINGS :], encoded.embedding])
        codebook = encoded.codes.codebook_version
        other_codes = [c for c in before.codes if c.codebook_version != codebook]
        del merged.codes[:]
        merged.codes.extend(
            [*other_codes[1 - N_KEPT_EMBEDDINGS :], self._stable_codes(key, encoded.codes)]
        )
        return merged


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, FreshetError) and (error.retryable or isinstance(error, TooLate))
