"""The catalogue as retrieval needs it: follows rec.item-vectors to name items and to compare them.

Milvus finds; this names. A found item that the catalogue lacks, or that is no longer available, is
not shown, so that a search that is a moment behind (Milvus reads are bounded, not strong) shows
nothing that was deleted. It also holds each item's vectors, for diversity in the merge, and which
attributes a tenant's items carry, for its filters (attributes.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from google.protobuf.message import DecodeError

from infra.kafka_follower import Record
from infra.lru import Lru
from protos.errors import InvalidInput
from protos.keys import checked_id, checked_tenant, compose_key, short_item_hash
from protos.rec.v1.items_pb2 import Item, ItemVector
from protos.vectors import Floats, embedding_vector
from retrieval.attributes import Census, TenantAttributes, attributes_of, count_if_never
from retrieval.filters import Value
from retrieval.measures import REFUSED_RECORDS
from retrieval.newest import list_if_never, list_item
from retrieval.store import ITEMS, Batch, Store, put_offsets

log = structlog.get_logger(__name__)

MAX_CATEGORIES, MAX_CATEGORY_BYTES = 64, 1024
"""What Milvus stores of an item (milvus/writer.py). No others count: filters mean one thing."""


@dataclass(frozen=True, slots=True)
class CatalogueItem:
    """One item, read-only. What every candidate of a feed is asked for stands outside the message:
    attributes of messages are slow."""

    key: bytes
    tenant: str
    item_id: str
    title: str
    categories: tuple[str, ...]
    available: bool
    created_at_ms: int
    popularity: float
    attributes: Mapping[str, Value]
    short_hash: int
    vectors: dict[str, Floats]
    """By model version. (D,)"""
    item: Item


class Catalogue:
    def __init__(self, store: Store, *, max_bytes: int) -> None:
        self._store = store
        count_if_never(store)
        list_if_never(store)
        self.items: Lru[bytes, CatalogueItem] = Lru(max_bytes)

    def get(self, tenant: str, item_id: str) -> CatalogueItem | None:
        return self.get_many([compose_key(tenant, item_id)])[0]

    def attributes(self, tenant: str) -> TenantAttributes:
        """Return what the tenant's filters may name."""
        return TenantAttributes(self._store, tenant)

    def get_many(self, keys: Sequence[bytes]) -> list[CatalogueItem | None]:
        """Return the items in the order of their keys (tenant/item); None where unknown."""
        found = self.items.get_many(keys)
        for at, item in enumerate(found):
            if item is None:
                found[at] = self._load(keys[at])
        return found

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Take a batch of rec.item-vectors. Called on that topic's follower thread only."""
        batch, news = self._store.batch(), dict[bytes, CatalogueItem | None]()
        census = Census(self._store, batch)
        for record in records:
            if record.value is None:
                before = _stored(batch, record.key)
                census.replace(record.key, before, None)
                list_item(batch, record.key, before, None)
                batch.delete(ITEMS, record.key)
                news[record.key] = None
                continue
            try:
                item = parse_item(topic, record)
            except InvalidInput as error:
                refuse_item(topic, record, error)
                continue
            news[record.key] = item
            before = _stored(batch, record.key)
            census.replace(record.key, before, item.attributes)
            list_item(batch, record.key, before, item.created_at_ms)
            batch.put(ITEMS, record.key, record.value)
        census.write()
        offsets = self._store.next_offsets(f"catalogue:{topic}")
        offsets |= {record.partition: record.offset + 1 for record in records}
        put_offsets(batch, f"catalogue:{topic}", offsets)
        batch.write()
        self._remember(news)

    def _remember(self, news: dict[bytes, CatalogueItem | None]) -> None:
        for key, item in news.items():
            if item is None:
                self.items.drop(key)
            else:
                self.items.put(key, item, _cost(item))

    def _load(self, key: bytes) -> CatalogueItem | None:
        raw = self._store.get(ITEMS, key)
        if raw is None:
            return None
        item = _item(ItemVector.FromString(raw), key)
        return self.items.put_if_absent(key, item, _cost(item))


def _stored(batch: Batch, key: bytes) -> Item | None:
    """Return an item as the batch leaves it so far."""
    raw = batch.get(ITEMS, key)
    return None if raw is None else ItemVector.FromString(raw).item


def parse_item(topic: str, record: Record) -> CatalogueItem:
    """Read a record of rec.item-vectors. A vector of a wrong length is left out and counted.

    Raises InvalidInput for what is no item, or not the item that the key names.
    """
    try:
        message = ItemVector.FromString(record.value or b"")
    except DecodeError as error:
        raise InvalidInput("the value is no ItemVector") from error
    checked_id(message.item.item_id, "item_id")
    tenant = checked_tenant(message.item.tenant)
    if record.key != compose_key(tenant, message.item.item_id):
        raise InvalidInput("the key names another item than the value")
    item = _item(message, record.key)
    if len(item.vectors) < len(message.embeddings):
        refuse_item(topic, record, InvalidInput("a vector has a wrong length"), what="vector")
    return item


def refuse_item(topic: str, record: Record, error: InvalidInput, what: str = "item") -> None:
    REFUSED_RECORDS.labels(topic, what).inc()
    log.warning(
        "record_refused",
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        what=what,
        message=str(error),
    )


def _item(message: ItemVector, key: bytes) -> CatalogueItem:
    item, vectors = message.item, dict[str, Floats]()
    item.tenant = checked_tenant(item.tenant)
    for embedding in message.embeddings:
        try:
            vectors[embedding.model_version] = embedding_vector(embedding)
        except InvalidInput:
            continue
    return CatalogueItem(
        key=key,
        tenant=item.tenant,
        item_id=item.item_id,
        title=item.title,
        categories=_categories(item.categories),
        available=item.available if item.HasField("available") else True,
        created_at_ms=item.created_at_ms,
        popularity=item.popularity,
        attributes=attributes_of(item),
        short_hash=short_item_hash(item.tenant, item.item_id),
        vectors=vectors,
        item=item,
    )


def _categories(names: Sequence[str]) -> tuple[str, ...]:
    stored = [name for name in names if len(name.encode()) <= MAX_CATEGORY_BYTES]
    return tuple(stored[:MAX_CATEGORIES])


def _cost(item: CatalogueItem) -> int:
    """Estimate the memory of an entry: messages in memory take about four times their bytes."""
    vectors = sum(vector.nbytes + 150 for vector in item.vectors.values())
    attributes = 100 * len(item.attributes)
    return item.item.ByteSize() * 4 + vectors + attributes + 500
