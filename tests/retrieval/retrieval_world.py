"""A small retrieval in memory for tests: real store, cache, catalogue and trending in a temporary
folder, fed by records as Kafka would; only Milvus, the encoder and Kafka itself are fakes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infra.kafka_follower import Record
from infra.kafka_topics import user_partition
from protos.errors import DependencyDown, FreshetError
from protos.keys import compose_key, short_item_hash
from protos.rec.v1.interests_pb2 import (
    Interests,
    RecentItem,
    SeenSegment,
    Tier,
    TrendingItem,
    TrendingList,
    UserInterests,
)
from protos.rec.v1.items_pb2 import Dtype, Embedding, Item, ItemVector
from retrieval.attributes import attributes_of
from retrieval.catalogue import Catalogue
from retrieval.changes import Changes, trending_key
from retrieval.filters import Filter, predicate
from retrieval.interests import UserCache
from retrieval.milvus.client import MissingCollection, WrongDimension
from retrieval.milvus.wire import Hits
from retrieval.new_items import NewItems
from retrieval.open_feeds import OpenFeeds
from retrieval.pages import PageTokens
from retrieval.personal import PersonalFeeds
from retrieval.receipts import Receipts
from retrieval.recommend import Recommender
from retrieval.service import Limits, RecommendServicer
from retrieval.store import Store
from retrieval.trending import TrendingBoard

N_PARTITIONS = 4
MODEL = "m1"
DIM = 4


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def hashes(*item_ids: str) -> bytes:
    return np.array([short_item_hash("default", i) for i in item_ids], "<u4").tobytes()


def interests(*rows: np.ndarray, model: str = MODEL, sequence: int = 1, tier: int = 2) -> Interests:
    """K vectors of equal weight."""
    matrix = np.stack(rows).astype("<f4")
    return Interests(
        model_version=model,
        codebook_version="0" * 16,
        model_sequence=sequence,
        tier=Tier.Name(tier),
        dtype=Dtype.DTYPE_F32,
        n_interests=len(rows),
        dim=matrix.shape[1],
        vectors=matrix.tobytes(),
        weights=[1 / len(rows)] * len(rows),
    )


def state(user_id: str, offset: int, vectors: Interests | None = None, **fields) -> UserInterests:
    made = UserInterests(
        tenant="default",
        user_id=user_id,
        partition=user_partition("default", user_id, N_PARTITIONS),
        **{"applied_offset": offset, "encoded_offset": offset, "n_events": 1} | fields,
    )
    if vectors is not None:
        made.interests.CopyFrom(vectors)
    return made


def recent(item_id: str, time_ms: int = 1_000) -> RecentItem:
    return RecentItem(item_id=item_id, event_time_ms=time_ms, action=2)


def item_vector(item_id: str, vector: np.ndarray, *, model: str = MODEL, **fields) -> ItemVector:
    item = Item(tenant="default", item_id=item_id, title=f"Title {item_id}", **fields)
    embedding = Embedding(
        model_version=model,
        dtype=Dtype.DTYPE_F32,
        vector=vector.astype("<f4").tobytes(),
        dim=len(vector),
    )
    return ItemVector(item=item, embeddings=[embedding])


class FakeIndex:
    """Exact search over what is in the catalogue, in place of Milvus."""

    def __init__(self) -> None:
        self.items: dict[bytes, ItemVector] = {}
        self.failure: FreshetError | None = None
        self.delay_s = 0.0
        self.limits: list[int] = []

    def put(self, message: ItemVector) -> None:
        self.items[compose_key("default", message.item.item_id)] = message

    async def search(
        self, model_version: str, queries, where: Filter, *, limit: int, timeout_s: float
    ) -> list[Hits]:
        self.limits.append(limit)
        if self.delay_s:
            await asyncio.sleep(min(self.delay_s, timeout_s))
        if self.failure is not None:
            raise self.failure
        if self.delay_s > timeout_s:
            raise DependencyDown("Milvus did not search: timeout")
        return [self._one(model_version, query, where, limit) for query in queries]

    def _one(self, version: str, query, where: Filter, limit: int) -> Hits:
        scored = []
        for key, message in self.items.items():
            for embedding in message.embeddings:
                if embedding.model_version == version and predicate(where)(_Seen(message.item)):
                    if embedding.dim != len(query):
                        raise WrongDimension("interests are not as long as the items' vectors")
                    vector = np.frombuffer(embedding.vector, "<f4")
                    scored.append((float(vector @ query), key))
        if not scored:
            raise MissingCollection(f"no items of model {version} are indexed yet")
        scored.sort(key=lambda pair: (-pair[0], pair[1]))
        return Hits(tuple(k for _, k in scored[:limit]), tuple(s for s, _ in scored[:limit]))


class _Seen:
    """An Item as filters see it."""

    def __init__(self, item: Item) -> None:
        self.tenant, self.item_id = item.tenant, item.item_id
        self.categories = tuple(item.categories)
        self.available = item.available if item.HasField("available") else True
        self.created_at_ms, self.popularity = item.created_at_ms, item.popularity
        self.attributes = attributes_of(item)


class FakeSessions:
    def __init__(self) -> None:
        self.answer: Interests | FreshetError = DependencyDown("no encoder here")

    async def interests(self, tenant: str, events: Sequence, timeout_s: float) -> Interests:
        if isinstance(self.answer, FreshetError):
            raise self.answer
        return self.answer


class FakeLogEnd:
    def __init__(self, end: int | None = 1_000_000) -> None:
        self.end, self.n_asked = end, 0

    async def end_offset(self, partition: int) -> int | None:
        self.n_asked += 1
        return self.end


class FakeNotes:
    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes | None]] = []
        self.taken_back = asyncio.Event()

    def send(self, key: bytes, value: bytes | None) -> None:
        self.sent.append((key, value))
        if value is None:
            self.taken_back.set()


class World:
    """Everything a servicer needs; made on the running event loop."""

    def __init__(self, folder: Path, **limits) -> None:
        self.store = Store(folder / "store")
        self.changes = Changes()
        self.users = UserCache(self.store, max_bytes=2**20, on_change=self.changes.announce)
        self.catalogue = Catalogue(self.store, max_bytes=2**20)
        self.trending = TrendingBoard(
            self.store, on_change=lambda ts: self.changes.announce([trending_key(t) for t in ts])
        )
        self.index, self.sessions = FakeIndex(), FakeSessions()
        self.log_end, self.notes = FakeLogEnd(), FakeNotes()
        self.recommender = Recommender(
            self.users,
            self.catalogue,
            self.trending,
            self.index,
            self.sessions,
            PersonalFeeds(
                self.index,
                self.catalogue,
                NewItems(self.store, self.catalogue, max_age_days=7),
                search_timeout_s=1.0,
                new_share=0.25,
            ),
        )
        self.receipts = Receipts(self.users, self.changes, self.log_end)
        self.open_feeds = OpenFeeds(self.notes)
        self.servicer = RecommendServicer(
            self.users,
            self.catalogue,
            self.recommender,
            self.receipts,
            self.changes,
            self.open_feeds,
            PageTokens(b"a secret"),
            Limits(n_partitions=N_PARTITIONS, **limits),
        )
        self._offsets = 0

    def add_item(self, item_id: str, vector: np.ndarray, **fields) -> None:
        message = item_vector(item_id, vector, **fields)
        self.index.put(message)
        self.catalogue.apply("items", [self.record(compose_key("default", item_id), message)])

    def add_user(self, user: UserInterests) -> None:
        key = compose_key(user.tenant, user.user_id)
        self.users.apply_interests("interests", [self.record(key, user)])

    def add_seen(self, segment: SeenSegment) -> None:
        key = compose_key("default", segment.user_id, str(segment.segment_index))
        self.users.apply_seen("seen", [self.record(key, segment)])

    def add_trending(self, *scores: tuple[str, float], category: str = "", **fields) -> None:
        items = [TrendingItem(item_id=i, score=s) for i, s in scores]
        message = TrendingList(tenant="default", category=category, items=items, **fields)
        self.trending.apply("trending", [self.record(compose_key("default", category), message)])

    def record(self, key: bytes, message) -> Record:
        self._offsets += 1
        return record(key, message, self._offsets)


def record(key: bytes, message, offset: int = 0, partition: int = 0) -> Record:
    value = message if message is None or isinstance(message, bytes) else _bytes(message)
    return Record(partition, offset, 1_700_000_000_000, key, value)


def _bytes(message) -> bytes:
    return message.SerializeToString()
