"""A cache bounded by bytes that forgets what was used least recently.

Safe between threads: a follower's thread writes what the event loop reads. A reader that filled
the cache from disk uses `put_if_absent`, so that it never covers what a follower put meanwhile.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._n_bytes = max_bytes, 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    def get(self, key: K) -> V | None:
        with self._lock:
            return self._get(key)

    def get_many(self, keys: Sequence[K]) -> list[V | None]:
        """Return the values in the order of the keys, under one lock."""
        with self._lock:
            return [self._get(key) for key in keys]

    def put(self, key: K, value: V, n_bytes: int) -> None:
        with self._lock:
            self._put(key, value, n_bytes)

    def put_if_absent(self, key: K, value: V, n_bytes: int) -> V:
        """Return what the cache holds afterwards."""
        with self._lock:
            found = self._get(key)
            if found is not None:
                return found
            self._put(key, value, n_bytes)
            return value

    def drop(self, key: K) -> None:
        with self._lock:
            _, n_bytes = self._entries.pop(key, (None, 0))
            self._n_bytes -= n_bytes

    def _get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def _put(self, key: K, value: V, n_bytes: int) -> None:
        _, old_bytes = self._entries.pop(key, (None, 0))
        self._entries[key] = (value, n_bytes)
        self._n_bytes += n_bytes - old_bytes
        while self._n_bytes > self._max_bytes and len(self._entries) > 1:
            _, (_, freed) = self._entries.popitem(last=False)
            self._n_bytes -= freed
