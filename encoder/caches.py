"""What a worker remembers between requests. Losing any of it changes no answer, only the speed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import Counter, Gauge

from encoder.items import ItemState
from encoder.segment_rows import Memory
from infra.lru import Lru

LOOKUPS = Counter(
    "freshet_encoder_cache_lookups_total", "Lookups in the worker's caches.", ["cache", "found"]
)
HELD = Gauge("freshet_encoder_cache_held", "What the caches hold: items, or bytes.", ["cache"])

Found = TypeVar("Found")


class _Lookups:
    """Counts the lookups of one cache; a user makes forty, so they are counted together."""

    def __init__(self, cache: str) -> None:
        self._found, self._missed = (LOOKUPS.labels(cache, one) for one in ("true", "false"))

    def counted(self, found: list[Found | None]) -> list[Found | None]:
        n_missed = sum([one is None for one in found])
        if n_missed:
            self._missed.inc(n_missed)
        self._found.inc(len(found) - n_missed)
        return found


ItemKey = tuple[str, str, int]
"""(tenant, item_id, text digest)"""


@dataclass(frozen=True, slots=True)
class KnownItem:
    state: ItemState
    codes: bytes
    """Q bytes."""


class ItemCache:
    """Items by revision of their text. The bundle's own catalogue is never evicted."""

    def __init__(self, capacity: int) -> None:
        self._pinned: dict[ItemKey, KnownItem] = {}
        self._recent: Lru[ItemKey, KnownItem] = Lru(capacity)
        self._newest: Lru[tuple[str, str], ItemKey] = Lru(capacity)
        self._newest_pinned: dict[tuple[str, str], ItemKey] = {}
        self._lookups = _Lookups("items")

    def pin(self, items: Iterable[tuple[ItemKey, KnownItem]]) -> None:
        for key, item in items:
            self._pinned[key] = item
            self._newest_pinned[key[:2]] = key
        HELD.labels("items").set(len(self._pinned) + len(self._recent))

    def put(self, key: ItemKey, item: KnownItem) -> None:
        if key not in self._pinned:
            self._recent.put(key, item, 1)
        self._newest.put(key[:2], key, 1)
        HELD.labels("items").set(len(self._pinned) + len(self._recent))

    def renew(self, key: ItemKey) -> bool:
        """Make a revision its item's newest; return whether it is known."""
        is_known = key in self._pinned or self._recent.get(key) is not None
        if is_known:
            self._newest.put(key[:2], key, 1)
        return is_known

    def find(self, keys: Sequence[ItemKey]) -> list[KnownItem | None]:
        found = [self._pinned.get(key) for key in keys]
        if None in found:
            others = [key for key, item in zip(keys, found, strict=True) if item is None]
            rest = iter(self._recent.get_many(others))
            found = [item or next(rest) for item in found]
        return self._lookups.counted(found)

    def newest(self, tenant: str, item_id: str) -> KnownItem | None:
        """Return the item at the revision that came last."""
        name = (tenant, item_id)
        key = self._newest.get(name) or self._newest_pinned.get(name)
        return None if key is None else self.find([key])[0]


class BlockCache:
    """Memory blocks by digest, least recently used out first, bounded by bytes."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._blocks: Lru[bytes, Memory] = Lru(capacity_bytes)
        self._lookups = _Lookups("blocks")

    def find(self, digests: Sequence[bytes]) -> list[Memory | None]:
        return self._lookups.counted(self._blocks.get_many(digests))

    def put(self, digest: bytes, block: Memory) -> None:
        if block.nbytes <= self._capacity_bytes:
            self._blocks.put(digest, block, block.nbytes)
        HELD.labels("blocks").set(self._blocks.size)
