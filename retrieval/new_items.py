"""The newest items of each tenant, held with their vectors and scored exactly.

Nobody has clicked them yet, so no interest leads far to them, and the index may not have them yet.
They are read again at most once a second, so one that has just been made can be shown within that.
"""

import time
from collections.abc import Callable
from itertools import islice
from typing import TypeAlias

import numpy as np

from infra.lru import Lru
from protos.vectors import Floats
from retrieval.catalogue import Catalogue, CatalogueItem
from retrieval.newest import newest
from retrieval.store import Store

MOST = 512
"""Of a tenant."""
REREAD_S = 1.0
DAY_MS = 24 * 3600 * 1000
_MAX_BYTES = 64 * 2**20


_Vectors: TypeAlias = tuple[list[bytes], Floats]
"""Keys, and their vectors. (n, D)"""


class _Held:
    """What was newest when it was read; vectors are laid out once for each model."""

    def __init__(self, items: list[CatalogueItem], read_s: float) -> None:
        self.items, self.read_s = items, read_s
        self._laid_out: dict[tuple[str, int], _Vectors] = {}

    def of(self, version: str, dim: int) -> _Vectors:
        """Return the items that have such a vector of a model version."""
        found = self._laid_out.get((version, dim))
        if found is None:
            found = self._laid_out[version, dim] = self._lay_out(version, dim)
        return found

    def _lay_out(self, version: str, dim: int) -> _Vectors:
        good = [item for item in self.items if len(item.vectors.get(version, ())) == dim]
        vectors = [item.vectors[version] for item in good] or [np.empty(0, np.float32)]
        return [item.key for item in good], np.concatenate(vectors).reshape(-1, dim)


class NewItems:
    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        *,
        max_age_days: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            max_age_days: since an item's created_at_ms; 0: no item is new.
        """
        self._store, self._catalogue = store, catalogue
        self._max_age_ms, self._clock = max_age_days * DAY_MS, clock
        self._held: Lru[str, _Held] = Lru(_MAX_BYTES)

    def nearest(self, tenant: str, version: str, interests: Floats, n: int) -> list[bytes]:
        """Return the keys of at most n new items, those first that an interest (K, D) is nearest
        to."""
        if self._max_age_ms == 0 or n == 0:
            return []
        keys, vectors = self._newest(tenant).of(version, interests.shape[1])
        best = (vectors @ interests.T).max(axis=1)
        return [keys[row] for row in np.argsort(-best, kind="stable")[:n].tolist()]

    def _newest(self, tenant: str) -> _Held:
        now_s = self._clock()
        held = self._held.get(tenant)
        if held is None or not 0 <= now_s - held.read_s < REREAD_S:
            now_ms = int(now_s * 1000)
            rows = newest(self._store, tenant, since_ms=now_ms - self._max_age_ms, until_ms=now_ms)
            found = self._catalogue.get_many(list(islice(rows, MOST)))
            held = _Held([item for item in found if item is not None], now_s)
            self._held.put(tenant, held, 200 * (1 + len(held.items)))
        return held
