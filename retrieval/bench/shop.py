"""A synthetic catalogue and users who have seen some of it, written to Kafka as the stream would.

Items lie in clusters of unequal size; a user's interests are near some clusters, and what he has
seen is near his interests, as with real ones: much of what a search finds has been seen.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from kafka import KafkaProducer
from rich.progress import Progress

from infra.kafka_topics import Topics, ensure_topics, key_partition, user_partition
from protos.keys import compose_key, item_hash, short_item_hash
from protos.rec.v1.interests_pb2 import (
    Interests,
    RecentItem,
    SeenSegment,
    Tier,
    UserInterests,
)
from protos.rec.v1.items_pb2 import AttributeValue, Dtype, Embedding, Item, ItemVector
from protos.vectors import Floats

MODEL, TENANT = "bench-1", "default"
DIM, N_INTERESTS = 64, 4
N_CLUSTERS, SPREAD = 400, 0.8
N_CATEGORIES = 20
N_SEEN, SEGMENT, N_RECENT = 2_048, 128, 32
N_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Shop:
    vectors: Floats  # (N, D) unit
    categories: npt.NDArray[np.int64]  # (N,)
    prices: npt.NDArray[np.int64]  # (N,)
    users: Floats  # (U, K, D) unit
    seen: npt.NDArray[np.int64]  # (U, N_SEEN) rows of items

    @property
    def n_items(self) -> int:
        return len(self.vectors)


def make_shop(n_items: int, n_users: int, seed: int = 0) -> Shop:
    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((N_CLUSTERS, DIM)).astype(np.float32))
    shares = rng.zipf(1.5, N_CLUSTERS).clip(1, 50) * 1.0
    of_item = rng.choice(N_CLUSTERS, n_items, p=shares / shares.sum())
    # As the topic carries them.
    vectors = _near(centres[of_item], rng).astype(np.float16).astype(np.float32)
    users = _near(centres[rng.choice(N_CLUSTERS, (n_users, N_INTERESTS))], rng)
    return Shop(
        vectors,
        (of_item + rng.integers(0, 3, n_items)) % N_CATEGORIES,
        rng.integers(1, 100, n_items),
        users,
        np.stack([_seen(user, vectors, rng) for user in users]),
    )


def item_id(row: int) -> str:
    return f"item-{row}"


def user_id(row: int) -> str:
    return f"user-{row}"


def category(number: int) -> str:
    return f"category-{number}"


def publish(shop: Shop, bootstrap: str, topics: Topics, progress: Progress) -> None:
    """Write items, users and what they have seen; return when Kafka has all of it."""
    ensure_topics(bootstrap, topics, n_partitions=N_PARTITIONS)
    # Acknowledged at the end, all of it: `flush` raises nothing, the futures do.
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=2**18)
    failures: list[BaseException] = []
    task = progress.add_task("publishing items and users", total=shop.n_items + len(shop.users))
    for topic, key, value, partition in _records(shop, topics):
        sent = producer.send(topic, key=key, value=value, partition=partition)
        sent.add_errback(failures.append)
        progress.advance(task, topic != topics.seen)
    producer.flush(timeout=120)
    producer.close()
    if failures:
        raise failures[0]


def _records(shop: Shop, topics: Topics) -> Iterator[tuple[str, bytes, bytes, int]]:
    halves = shop.vectors.astype("<f2")
    now_ms = time.time_ns() // 1_000_000
    for row in range(shop.n_items):
        name = item_id(row)
        item = Item(
            tenant=TENANT,
            item_id=name,
            title=f"Item {row}",
            categories=[category(shop.categories[row])],
            created_at_ms=now_ms - row * 3_600_000,
            attributes={"price": AttributeValue(number=float(shop.prices[row]))},
        )
        embedding = Embedding(
            model_version=MODEL, dtype=Dtype.DTYPE_F16, vector=halves[row].tobytes(), dim=DIM
        )
        value = ItemVector(item=item, item_hash=item_hash(TENANT, name), embeddings=[embedding])
        key = compose_key(TENANT, name)
        yield (
            topics.item_vectors,
            key,
            value.SerializeToString(),
            key_partition(key, N_PARTITIONS),
        )
    for row in range(len(shop.users)):
        partition = user_partition(TENANT, user_id(row), N_PARTITIONS)
        for segment in _segments(shop, row):
            key = compose_key(TENANT, segment.user_id, str(segment.segment_index))
            yield topics.seen, key, segment.SerializeToString(), partition
        state = state_of(shop, row)
        key = compose_key(TENANT, state.user_id)
        yield topics.interests, key, state.SerializeToString(), partition


def _segments(shop: Shop, row: int) -> Iterator[SeenSegment]:
    for index in range(N_SEEN // SEGMENT):
        rows = shop.seen[row, index * SEGMENT :][:SEGMENT]
        hashes = [short_item_hash(TENANT, item_id(one)) for one in rows]
        yield SeenSegment(
            tenant=TENANT,
            user_id=user_id(row),
            segment_index=index,
            item_hashes=np.array(hashes, "<u4").tobytes(),
            last_event_time_ms=1_700_000_000_000,
            offset=row,
        )


def state_of(shop: Shop, row: int) -> UserInterests:
    weights = np.linspace(2, 1, N_INTERESTS)
    recent = shop.seen[row, -N_RECENT:]
    return UserInterests(
        tenant=TENANT,
        user_id=user_id(row),
        partition=user_partition(TENANT, user_id(row), N_PARTITIONS),
        applied_offset=row,
        encoded_offset=row,
        n_events=N_SEEN,
        n_closed_segments=N_SEEN // SEGMENT,
        recent=[RecentItem(item_id=item_id(one), event_time_ms=1, action=2) for one in recent],
        interests=Interests(
            model_version=MODEL,
            codebook_version="0" * 16,
            model_sequence=1,
            tier=Tier.TIER_REFINED,
            dtype=Dtype.DTYPE_F32,
            n_interests=N_INTERESTS,
            dim=DIM,
            vectors=shop.users[row].astype("<f4").tobytes(),
            weights=(weights / weights.sum()).tolist(),
        ),
    )


def _seen(interests: Floats, vectors: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return rows that one user has seen: half of them among the nearest of his interests."""
    nearest = np.unique(np.argpartition(-(vectors @ interests.T), 1_000, axis=0)[:1_000])
    own = rng.choice(nearest, min(N_SEEN // 2, len(nearest) // 2), replace=False)
    others = rng.choice(len(vectors), N_SEEN, replace=False)
    rows = np.concatenate([own, np.setdiff1d(others, own, assume_unique=True)])[:N_SEEN]
    return rng.permutation(rows)


def _near(centres: Floats, rng: np.random.Generator) -> Floats:
    noise = rng.standard_normal(centres.shape).astype(np.float32) / np.float32(DIM**0.5)
    return _unit(centres + np.float32(SPREAD) * noise)


def _unit(rows: Floats) -> Floats:
    found: Floats = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return found
