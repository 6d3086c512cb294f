"""The log that every contestant reads, and the catalogue beside it: made once, written anywhere.

Users and items are drawn by a Zipf-Mandelbrot law, p ~ 1 / (rank + 10): of 5,000 users the busiest
has 1.6% of the events, the busiest tenth 64%.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer

from infra.channels import sync_channel
from infra.kafka_topics import key_partition
from protos.keys import compose_key, item_hash, item_text
from protos.rec.v1.encoder_pb2 import EncodeItemsRequest, ItemText
from protos.rec.v1.encoder_pb2_grpc import EncoderServiceStub
from protos.rec.v1.events_pb2 import Event, EventBatch
from protos.rec.v1.items_pb2 import Item, ItemVector

TENANT = "default"
N_CATEGORIES = 20
_ACTIONS, _ACTION_SHARES = ("view", "click", "like"), (0.6, 0.3, 0.1)
_SPAN_MS = 3600 * 1000
"""All events lie within an hour, so some gaps of a user are small and some are large."""
_ITEMS_A_CALL = 500
_ENCODE_TIMEOUT_S = 60.0

KeyedValue = tuple[bytes, bytes]
"""Key and value of one record."""


def make_events(n_events: int, n_users: int, n_items: int, *, seed: int = 0) -> list[KeyedValue]:
    """Return records of rec.events with one event each, in the order of their time."""
    rng = np.random.default_rng(seed)
    users = rng.choice(n_users, n_events, p=_zipf(n_users))
    items = rng.choice(n_items, n_events, p=_zipf(n_items))
    actions = rng.choice(_ACTIONS, n_events, p=_ACTION_SHARES)
    first_ms = time.time_ns() // 1_000_000 - _SPAN_MS
    return [
        _record(
            f"user-{users[i]}",
            Event(
                event_id=f"event-{i}",
                item_id=f"item-{items[i]}",
                action=str(actions[i]),
                event_time_ms=first_ms + i * _SPAN_MS // n_events,
            ),
        )
        for i in range(n_events)
    ]


def make_items(n_items: int) -> list[Item]:
    return [
        Item(
            tenant=TENANT,
            item_id=f"item-{i}",
            title=f"item number {i}",
            categories=[f"category-{i % N_CATEGORIES}"],
        )
        for i in range(n_items)
    ]


def encode_items(items: Sequence[Item], encoder_address: str) -> list[KeyedValue]:
    """Have the encoder make vectors and codes; return records of rec.item-vectors."""
    vectors: list[KeyedValue] = []
    with sync_channel(encoder_address) as channel:
        stub = EncoderServiceStub(channel)
        for start in range(0, len(items), _ITEMS_A_CALL):
            some = items[start : start + _ITEMS_A_CALL]
            texts = [
                ItemText(tenant=i.tenant, item_id=i.item_id, text=item_text(i.title, i.text))
                for i in some
            ]
            request = EncodeItemsRequest(items=texts)
            response = stub.EncodeItems(request, timeout=_ENCODE_TIMEOUT_S)
            for item, encoded in zip(some, response.items, strict=True):
                vector = ItemVector(
                    item=item,
                    item_hash=item_hash(item.tenant, item.item_id),
                    text_digest=encoded.text_digest,
                    embeddings=[encoded.embedding],
                    codes=[encoded.codes],
                )
                key = compose_key(item.tenant, item.item_id)
                vectors.append((key, vector.SerializeToString()))
    return vectors


def write(bootstrap: str, topic: str, records: Sequence[KeyedValue], n_partitions: int) -> None:
    """Write records to the partitions of their keys; return when all are durable.

    In whole batches of 16 KB, as a busy producer of any library sends them, but made here: record
    by record, Python would need a minute for what is read in ten seconds.
    """
    asyncio.run(_write(bootstrap, topic, records, n_partitions))


async def _write(
    bootstrap: str, topic: str, records: Sequence[KeyedValue], n_partitions: int
) -> None:
    partition_of = lru_cache(None)(key_partition)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(n_partitions)]
        for key, value in records:
            number = partition_of(key, n_partitions)
            if batches[number].append(timestamp=None, key=key, value=value) is None:
                await producer.send_batch(batches[number], topic, partition=number)
                batches[number] = producer.create_batch()
                batches[number].append(timestamp=None, key=key, value=value)
        for number, batch in enumerate(batches):
            await producer.send_batch(batch, topic, partition=number)
        await producer.flush()
    finally:
        await producer.stop()


def _zipf(n: int) -> npt.NDArray[np.float64]:
    weights = 1 / (np.arange(n) + 10.0)
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def _record(user_id: str, event: Event) -> KeyedValue:
    batch = EventBatch(tenant=TENANT, user_id=user_id, events=[event])
    return compose_key(TENANT, user_id), batch.SerializeToString()
