"""Who waits for news of whom: the bridge from follower threads to the event loop.

A watcher gets an asyncio.Event. News that come while a watcher is busy set its event once: it then
reads the newest state, so a slow watcher skips states and holds nobody back.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Changes:
    """Made on the event loop that watches; `announce` may be called from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watchers: dict[bytes, set[asyncio.Event]] = {}

    @contextmanager
    def watch(self, *keys: bytes) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever one of the keys changes; the watcher clears it."""
        event = asyncio.Event()
        for key in keys:
            self._watchers.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            for key in keys:
                self._watchers[key].discard(event)
                if not self._watchers[key]:
                    del self._watchers[key]

    def announce(self, keys: Iterable[bytes]) -> None:
        """Tell the watchers. Keys that nobody watches cost nothing on the loop."""
        # Reading the dict from another thread may miss a watcher that is just being added; it reads
        # the state after it has been added, so it misses nothing.
        watched = [key for key in keys if key in self._watchers]
        if watched and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, watched)

    def _wake(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            for event in self._watchers.get(key, ()):
                event.set()


def trending_key(tenant: str) -> bytes:
    """Return the key under which changes of a tenant's trending lists are announced. No user has
    it: theirs begin with the tenant."""
    return b"\0trending/" + tenant.encode()
