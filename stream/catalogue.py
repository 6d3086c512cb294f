"""What every worker knows of the items: codes by hash, texts, categories.

It follows rec.item-vectors (a thread of its own) from the beginning into memory, about 1 KB an
item.
Histories name an item by the low 32 bits of its hash. Two items may share them: such a hash is
ambiguous, gets no codes, and is counted.

Thread-safe: the follower and the item encoder write, the event loop reads.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from protos.keys import compose_key, item_text
from protos.rec.v1.items_pb2 import ItemVector

ItemKey = bytes
"""compose_key(tenant, item_id), the record's key."""

item_key = lru_cache(65_536)(compose_key)


@dataclass(frozen=True, slots=True)
class CatalogueItem:
    key: ItemKey
    short_hash: int
    """u32"""
    text: str
    text_digest: int
    categories: tuple[str, ...]
    codes: tuple[tuple[int, bytes], ...]
    """(codebook version, Q bytes)"""
    model_version: str
    """The newest model that it has an embedding of; "" without any."""
    partition: int
    """Of rec.item-vectors."""
    offset: int


class Catalogue:
    def __init__(self, n_levels: int, on_ambiguous: Callable[[], None]) -> None:
        """
        Args:
            n_levels: codes of another length are not used.
        """
        self._n_levels, self._on_ambiguous = n_levels, on_ambiguous
        self._items: dict[ItemKey, CatalogueItem] = {}
        self._by_hash: dict[int, CatalogueItem] = {}
        self._sharing: dict[int, set[ItemKey]] = {}
        self._by_model: Counter[tuple[int, str]] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: ItemKey) -> CatalogueItem | None:
        return self._items.get(key)

    def categories_of(self, tenant: str, item_id: str) -> tuple[str, ...]:
        """Return an item's categories, none while it is unknown."""
        item = self._items.get(item_key(tenant, item_id))
        return item.categories if item is not None else ()

    def codes_of(self, codebook_version: int) -> Callable[[int], bytes | None]:
        """Return the look-up of codes by hash, for one codebook."""
        by_hash, sharing, n_levels = self._by_hash, self._sharing, self._n_levels

        def look_up(short_hash: int) -> bytes | None:
            item = by_hash.get(short_hash)
            if item is None:
                return None
            if sharing and short_hash in sharing:
                self._on_ambiguous()
                return None
            for version, codes in item.codes:
                if version == codebook_version and len(codes) == n_levels:
                    return codes
            return None

        return look_up

    def apply(self, key: ItemKey, value: bytes | None, partition: int, offset: int) -> None:
        """Take one record of rec.item-vectors. One that is older than what is known changes
        nothing.

        Raises:
            DecodeError: the value is no ItemVector.
        """
        item = None if value is None else _read(key, value, partition, offset)
        with self._lock:
            known = self._items.get(key)
            if known is not None and known.offset >= offset:
                return
            if known is not None:
                self._forget(key, known)
            if item is not None:
                self._learn(key, item)

    def n_lacking(self, model_version: str, partition: int) -> int:
        """Return how many items of a partition have no embedding of this model."""
        with self._lock:
            return sum(
                count
                for (number, version), count in self._by_model.items()
                if number == partition and version != model_version
            )

    def _learn(self, key: ItemKey, item: CatalogueItem) -> None:
        known = self._by_hash.get(item.short_hash)
        if known is not None:
            self._sharing.setdefault(item.short_hash, set()).update((key, known.key))
        self._items[key] = item
        self._by_hash[item.short_hash] = item
        self._by_model[item.partition, item.model_version] += 1

    def _forget(self, key: ItemKey, item: CatalogueItem) -> None:
        del self._items[key]
        self._by_model[item.partition, item.model_version] -= 1
        sharing = self._sharing.get(item.short_hash)
        if sharing is None:
            del self._by_hash[item.short_hash]
            return
        sharing.discard(key)
        (*others,) = sharing
        self._by_hash[item.short_hash] = self._items[others[0]]
        if len(others) == 1:
            del self._sharing[item.short_hash]


def _read(key: ItemKey, value: bytes, partition: int, offset: int) -> CatalogueItem:
    vector = ItemVector.FromString(value)
    item = vector.item
    models = [embedding.model_version for embedding in vector.embeddings]
    return CatalogueItem(
        key=key,
        short_hash=vector.item_hash & 0xFFFFFFFF,
        text=item_text(item.title, item.text),
        text_digest=vector.text_digest,
        categories=tuple(item.categories),
        codes=tuple((int(c.codebook_version, 16), c.codes) for c in vector.codes),
        model_version=models[-1] if models else "",
        partition=partition,
        offset=offset,
    )
