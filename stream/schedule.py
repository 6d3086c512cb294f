"""Who is refreshed next: at most one refresh a user in flight, the rest coalesced.

A user who is touched while in flight is refreshed once more after it, however often he was touched;
so what waits is bounded by users, not by events. Order: users with an open feed, then the others,
each in the order in which they came; then spare work (refreshes owed since a restart or a new
model, light answers to be refined), when nobody else waits.

Pure: no clock, no I/O. The caller decides when to ask and what to do on failure.
"""

import enum
from collections.abc import Callable


class Priority(enum.IntEnum):
    OPEN_FEED = 0
    NORMAL = 1
    SPARE = 2


Key = tuple[int, bytes]
"""(partition, user key)"""


class RefreshScheduler:
    def __init__(self) -> None:
        self._waiting: tuple[dict[Key, None], ...] = ({}, {}, {})
        self._in_flight: dict[Key, Priority | None] = {}
        """The priority under which a user was touched again meanwhile."""

    @property
    def n_waiting(self) -> int:
        """Users who wait, spare work left out: what overload is measured by."""
        return len(self._waiting[Priority.OPEN_FEED]) + len(self._waiting[Priority.NORMAL])

    @property
    def n_spare(self) -> int:
        return len(self._waiting[Priority.SPARE])

    @property
    def n_in_flight(self) -> int:
        return len(self._in_flight)

    def touch(self, key: Key, priority: Priority = Priority.NORMAL) -> None:
        """Say that a user's state moved; a higher priority than before counts."""
        if key in self._in_flight:
            before = self._in_flight[key]
            self._in_flight[key] = priority if before is None else min(before, priority)
            return
        for queue in self._waiting[: priority + 1]:
            if key in queue:
                return
        for queue in self._waiting[priority + 1 :]:
            queue.pop(key, None)
        self._waiting[priority][key] = None

    def promote(self, key: Key) -> None:
        """Say that a user opened a feed: if he waits, he goes first from now on."""
        if key in self._in_flight:
            if self._in_flight[key] is not None:
                self._in_flight[key] = Priority.OPEN_FEED
        elif any(key in queue for queue in self._waiting):
            self.touch(key, Priority.OPEN_FEED)

    def take(self, limit: int, lowest: Priority = Priority.SPARE) -> list[tuple[Key, Priority]]:
        """Put up to `limit` users in flight and return them; none of a lower priority."""
        taken: list[tuple[Key, Priority]] = []
        for priority in Priority:
            queue = self._waiting[priority]
            if priority > lowest or (priority is Priority.SPARE and taken):
                break
            while queue and len(taken) < limit:
                key = next(iter(queue))
                del queue[key]
                self._in_flight[key] = None
                taken.append((key, priority))
        return taken

    def done(self, key: Key) -> None:
        """End a user's flight; one who was touched meanwhile waits again."""
        if (again := self._in_flight.pop(key, None)) is not None:
            self.touch(key, again)

    def retry(self, key: Key, priority: Priority) -> None:
        """End a user's flight without success: he waits again."""
        if key in self._in_flight:
            again = self._in_flight.pop(key)
            self.touch(key, priority if again is None else min(again, priority))

    def drop(self, is_gone: Callable[[Key], bool]) -> None:
        """Forget users: their partition went to another worker."""
        for queue in self._waiting:
            for key in filter(is_gone, list(queue)):
                del queue[key]
        for key in filter(is_gone, list(self._in_flight)):
            del self._in_flight[key]
