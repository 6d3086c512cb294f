"""Dynamic batching: jobs that arrive together share one computation, on one thread.

While a batch computes, new jobs gather; the next batch takes as many as fit its token budget. An
idle worker waits at most `max_wait_ms` for company. The queue is bounded: a job beyond it is
refused at once with a hint when to come back. A job whose deadline has passed, or whose caller has
gone, is dropped before it costs anything. A batch that fails is computed again job by job, so that
one bad job harms no other. When no job waits, work that can wait gets its turn, a bit at a time.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

from infra.metrics import LATENCY_BUCKETS_S
from protos.errors import Overloaded, TooLate

In = TypeVar("In")
Out = TypeVar("Out")

IDLE_AFTER_S = 0.005
"""Without a job."""

log = structlog.get_logger(__name__)

QUEUED = Gauge("freshet_encoder_queued_jobs", "Jobs waiting for a batch.", ["lane"])
REFUSED = Counter("freshet_encoder_refused_total", "Jobs not computed.", ["lane", "why"])
BATCH_JOBS = Histogram(
    "freshet_encoder_batch_jobs",
    "Jobs a batch.",
    ["lane"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
QUEUE_SECONDS = Histogram(
    "freshet_encoder_queue_seconds", "Wait for a batch.", ["lane"], buckets=LATENCY_BUCKETS_S
)
COMPUTE_SECONDS = Histogram(
    "freshet_encoder_compute_seconds", "One batch.", ["lane"], buckets=LATENCY_BUCKETS_S
)


@dataclass(slots=True)
class _Job(Generic[In, Out]):
    work: In
    n_tokens: int
    deadline: float | None
    """time.monotonic()"""
    arrived: float
    done: asyncio.Future[Out]


class Chores(Protocol):
    """Work that can wait, bit by bit."""

    def is_due(self) -> bool:
        """Return whether there is any; asked on the event loop."""

    def do(self) -> None:
        """Do a bit of it, on the executor; what fails is not due again."""


class Batcher(Generic[In, Out]):
    """One lane of work. Make it inside the running loop; lanes may share an executor."""

    def __init__(
        self,
        lane: str,
        compute: Callable[[Sequence[In]], Sequence[Out]],
        executor: Executor,
        *,
        max_tokens: int,
        max_wait_ms: float,
        max_queued: int,
        chores: Chores | None = None,
    ) -> None:
        """
        Args:
            lane: name in the metrics.
            compute: maps a batch to results in its order; runs on the executor.
            executor: one thread.
            max_tokens: budget of a batch; a single job may exceed it.
            max_wait_ms: how long the first job of an idle worker waits for others.
            max_queued: jobs waiting, beyond which `submit` raises Overloaded.
            chores: to do on the executor when no job has come for a while.
        """
        self._lane, self._compute, self._executor = lane, compute, executor
        self._max_tokens, self._max_wait_s = max_tokens, max_wait_ms / 1000
        self._max_queued, self._chores = max_queued, chores
        self._jobs: deque[_Job[In, Out]] = deque()
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def reserve(self, n_jobs: int) -> None:
        """Raise Overloaded when `n_jobs` more would not fit."""
        if len(self._jobs) + n_jobs > self._max_queued:
            REFUSED.labels(self._lane, "overloaded").inc(n_jobs)
            raise Overloaded(
                f"the encoder's queue is full ({len(self._jobs)} waiting); try again later",
                retry_after_s=0.2,
            )

    def submit(self, work: In, n_tokens: int, deadline: float | None) -> "asyncio.Future[Out]":
        """Compute `work` in some batch; cancel what comes back to withdraw it.

        Raises:
            Overloaded: at once, where the queue is full.
            TooLate: in the future, where `deadline` (time.monotonic()) came before a batch did.
        """
        self.reserve(1)
        done: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._jobs.append(_Job(work, n_tokens, deadline, time.monotonic(), done))
        QUEUED.labels(self._lane).set(len(self._jobs))
        self._arrived.set()
        return done

    async def close(self) -> None:
        """Stop; jobs that wait are cancelled."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for job in self._jobs:
            job.done.cancel()

    async def _run(self) -> None:
        while True:
            if self._chores is not None and self._chores.is_due() and not await self._is_busy():
                await self._do(self._chores)
                continue
            await self._arrived.wait()
            if self._max_wait_s and self._n_waiting_tokens() < self._max_tokens:
                await asyncio.sleep(self._max_wait_s)
            while batch := self._take():
                await self._answer(batch)
            self._arrived.clear()

    async def _is_busy(self) -> bool:
        """Return whether a job arrives before long."""
        try:
            await asyncio.wait_for(self._arrived.wait(), IDLE_AFTER_S)
        except TimeoutError:
            return False
        return True

    async def _do(self, chores: Chores) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, chores.do)
        except Exception:
            log.exception("chores_failed", lane=self._lane)

    def _n_waiting_tokens(self) -> int:
        return sum(job.n_tokens for job in self._jobs)

    def _take(self) -> list[_Job[In, Out]]:
        """Pop the oldest jobs that fit the budget, dropping those nobody waits for."""
        now = time.monotonic()
        batch: list[_Job[In, Out]] = []
        n_tokens = 0
        while self._jobs:
            job = self._jobs[0]
            if batch and n_tokens + job.n_tokens > self._max_tokens:
                break
            self._jobs.popleft()
            if job.done.done():
                REFUSED.labels(self._lane, "cancelled").inc()
            elif job.deadline is not None and now >= job.deadline:
                REFUSED.labels(self._lane, "too_late").inc()
                job.done.set_exception(TooLate("the deadline passed in the encoder's queue"))
            else:
                batch.append(job)
                n_tokens += job.n_tokens
                QUEUE_SECONDS.labels(self._lane).observe(now - job.arrived)
        QUEUED.labels(self._lane).set(len(self._jobs))
        return batch

    async def _answer(self, batch: list[_Job[In, Out]]) -> None:
        BATCH_JOBS.labels(self._lane).observe(len(batch))
        loop = asyncio.get_running_loop()
        try:
            with COMPUTE_SECONDS.labels(self._lane).time():
                works = [job.work for job in batch]
                outs = await loop.run_in_executor(self._executor, self._compute, works)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            log.exception("batch_failed", lane=self._lane, n_jobs=len(batch))
            for job in batch:
                await self._answer([job])
            return
        for job, out in zip(batch, outs, strict=True):
            if not job.done.done():
                job.done.set_result(out)


def _fail(job: _Job[In, Out], error: Exception) -> None:
    if not job.done.done():
        job.done.set_exception(error)
