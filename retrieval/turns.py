"""Whose feed is made next, when many want one at once.

Two thousand readers who come back together (a replica was restarted) would each wait until the
search gives up on all of them. So few feeds are made at a time, each within its deadline.
"""

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from itertools import count
from typing import TypeAlias

Turn: TypeAlias = asyncio.Future[None]


class Rank(IntEnum):
    """Who goes first: for how many seconds one lets those go before who come later and are more
    urgent. So nobody waits for ever, however much is new."""

    NEWS = 0
    OPENED = 15
    AGAIN = 30
    """A feed that was degraded, tried again."""


class Turns:
    """Lets `n` at a time; on the event loop. Who waits is bounded by whoever admits them."""

    def __init__(self, n: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._n_free, self._clock = n, clock
        self._waiting: list[tuple[float, int, Turn]] = []
        self._arrivals = count()

    @contextmanager
    def asked(self, rank: Rank) -> Iterator[Turn]:
        """Wait in the queue for the length of the block; the turn is done once it is ours, and ends
        with the block."""
        turn: Turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._clock() + rank, next(self._arrivals), turn))
        self._go_on()
        try:
            yield turn
        finally:
            if turn.done() and not turn.cancelled():
                self._n_free += 1
            turn.cancel()
            self._go_on()

    def close(self) -> None:
        """Let everybody go on who waits."""
        self._n_free += len(self._waiting)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._n_free > 0:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():  # who has left does not want it any more
                self._n_free -= 1
                turn.set_result(None)
