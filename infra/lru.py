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
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
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
            entries = self._entries
            found = [entries.get(key) for key in keys]
            for key, entry in zip(keys, found, strict=True):
                if entry is not None:
                    entries.move_to_end(key)
        return [entry[0] if entry is not None else None for entry in found]

    def put(self, key: K, value: V, size: int) -> None:
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
            _, size = self._entries.pop(key, (None, 0))
            self._size -= size

    def _get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def _put(self, key: K, value: V, size: int) -> None:
        _, old_size = self._entries.pop(key, (None, 0))
        self._entries[key] = (value, size)
        self._size += size - old_size
        while self._size > self._max_size and len(self._entries) > 1:
            _, (_, freed) = self._entries.popitem(last=False)
            self._size -= freed
