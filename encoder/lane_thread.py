"""The one thread on which jobs are computed, and the way of their answers to the event loop.

Answers give the event loop work, and two threads of Python that both have work wait for each other
at every step. So the answers of a batch are held until the next one is prepared: what computes it
is no Python, and the loop has the interpreter for itself.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(slots=True)
class Job(Generic[In, Out]):
    """What one caller wants computed together."""

    items: Sequence[In]
    n_tokens: int
    deadline: float | None
    """time.monotonic()"""
    arrived: float
    done: asyncio.Future[Sequence[Out]]


Answer: TypeAlias = tuple[Job[In, Out], Sequence[Out] | Exception]


class LaneThread:
    """May be shared by many lanes (encoder/batching.py). Make it inside the running loop."""

    def __init__(self, name: str) -> None:
        self.executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._loop = asyncio.get_running_loop()
        self._held: list[Answer[Any, Any]] = []

    def hold(self, answers: Sequence[Answer[Any, Any]]) -> None:
        """Keep answers until `let_go`; on the thread."""
        self._held += answers

    def let_go(self) -> None:
        """Wake those whose answers are held; on the thread."""
        if self._held:
            held, self._held = self._held, []
            self._loop.call_soon_threadsafe(_deliver, held)

    def close(self) -> None:
        """Wait for what is under way, drop what is queued, let go of all answers."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        self.let_go()


def _deliver(answers: Sequence[Answer[Any, Any]]) -> None:
    for job, answer in answers:
        if job.done.done():
            continue
        if isinstance(answer, Exception):
            job.done.set_exception(answer)
        else:
            job.done.set_result(answer)
