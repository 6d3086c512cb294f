"""A cache bounded by bytes, or by entries, that forgets what was used least recently.

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
    def __init__(self, max_size: int) -> None:
        """
        Args:
            max_size: of all entries together, in the unit of `put`: bytes, or 1 an entry.
        """
        self._max_size, self._size = max_size, 0
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        return self._size

    def get(self, key: K) -> V | None:
        with self._lock:
            return self._get(key)

    def get_many(self, keys: Sequence[K]) -> list[V | None]:
        """Return the values in the order of the keys, under one lock."""
        with self._lock:
            found = list(map(self._entries.get, keys))
            for key, value in zip(keys, found, strict=True):
                if value is not None:
                    self._entries.move_to_end(key)
        return found

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value, which is not None."""
        with self._lock:
            self._put(key, value, size)

    def put_if_absent(self, key: K, value: V, size: int) -> V:
        """Return what the cache holds afterwards."""
        with self._lock:
            found = self._get(key)
            if found is not None:
                return found
            self._put(key, value, size)
            return value

    def drop(self, key: K) -> None:
        with self._lock:
            if self._entries.pop(key, None) is not None:
                self._size -= self._sizes.pop(key)

    def _get(self, key: K) -> V | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def _put(self, key: K, value: V, size: int) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        self._size += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        while self._size > self._max_size and len(self._entries) > 1:
            oldest, _ = self._entries.popitem(last=False)
            self._size -= self._sizes.pop(oldest)
