"""A circuit breaker: who is away is not asked by everybody."""

import time
from collections.abc import Callable

from prometheus_client import Gauge

from protos.errors import DependencyDown

PAUSED = Gauge("freshet_retrieval_search_paused", "1 while searches are refused at once.")


class Breaker:
    """Closed until a call fails. Then open: every call is refused at once, but for one now and
    then, at growing intervals, which finds out whether the other side is back.

    For one event loop. The one that may try need not report: after a pause another may.
    """

    def __init__(
        self,
        who: str,
        *,
        first_pause_s: float = 0.5,
        max_pause_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._who, self._clock = who, clock
        self._first_pause_s, self._max_pause_s = first_pause_s, max_pause_s
        self._pause_s = 0.0
        """0 while closed."""
        self._until_s = 0.0
        self._is_trying = False

    def check(self) -> None:
        """Raise DependencyDown unless a call may be made now."""
        if not self._pause_s:
            return
        now_s = self._clock()
        if now_s < self._until_s:
            raise DependencyDown(f"{self._who} did not answer a moment ago; it is asked again soon")
        self._until_s, self._is_trying = now_s + self._pause_s, True

    def succeeded(self) -> None:
        self._pause_s, self._is_trying = 0.0, False
        PAUSED.set(0)

    def failed(self) -> None:
        """Open, or stay open for longer."""
        if self._pause_s and not self._is_trying:
            return  # it was under way together with the one that opened
        self._pause_s = min(self._max_pause_s, 2 * self._pause_s or self._first_pause_s)
        self._until_s, self._is_trying = self._clock() + self._pause_s, False
        PAUSED.set(1)
