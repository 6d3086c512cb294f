"""Notices that this process was paused for so long that its partitions may have another owner.

The changelog is fenced by the broker (stream/changelog.py); what else a worker writes is not. A
paused process (SIGSTOP, a frozen container, a suspended machine) that goes on after its session
would publish interests older than those of its successor, and compaction would keep them. So the
process ends at the first thing it would send; whoever supervises it starts it again.

What is left is a pause between this check and the write to the socket, microseconds later.
"""

import asyncio
import time
from collections.abc import Callable

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
BEAT_S = 0.5
SHARE = 0.7
"""Of the session: its last heartbeat may be a quarter of it old."""


class Paused(Exception):
    """The process must end."""


class Lease:
    def __init__(
        self,
        session_timeout_s: float,
        on_failure: Callable[[BaseException], None],
        clock: Callable[[], float] = lambda: time.clock_gettime(_CLOCK),
    ) -> None:
        """
        Args:
            on_failure: must end the process.
            clock: seconds; must go on while the machine sleeps.
        """
        self._limit_s = SHARE * session_timeout_s
        self._on_failure, self._clock = on_failure, clock
        self._last = clock()

    async def run(self) -> None:
        """Beat for ever; while nothing beats, the process stands still."""
        while True:
            self.check()
            self._last = self._clock()
            await asyncio.sleep(BEAT_S)

    def check(self) -> None:
        """Call before anything is sent. Raises Paused when it must not be."""
        paused_s = self._clock() - self._last
        if paused_s > self._limit_s:
            error = Paused(
                f"stood still for {paused_s:.1f} s, longer than the group waits; another worker "
                "may own the partitions by now, so this one starts anew"
            )
            self._on_failure(error)
            raise error
