"""Dynamic batching: jobs that arrive together share one computation, on one thread.

A job is what one caller wants computed together, as far as a batch's token budget allows; all of it
shares one future, for a future an item costs the event loop more than the item itself. While a
batch computes, new jobs gather; the next batch takes as many as fit its budget. An idle worker
waits at most `max_wait_ms` for company. The queue is bounded: what is beyond it is refused at once
with a hint when to come back. A job whose deadline has passed, or whose caller has gone, is dropped
before it costs anything. A batch that fails is computed again job by job, so that one bad job harms
no other. When no job waits, work that can wait gets its turn, a bit at a time.

    event loop                     thread
    submit: append to the queue -> turn: take a batch, prepare it
    wake those who wait         <- let the answers of the batch before go
                                   compute; while jobs wait, queue another turn, else let go

Lanes that share a thread take turns on it.
"""

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

from encoder.lane_thread import Answer, Job, LaneThread
from infra.metrics import LATENCY_BUCKETS_S
from protos.errors import Overloaded, TooLate

In = TypeVar("In")
Ready = TypeVar("Ready")
Out = TypeVar("Out")

IDLE_AFTER_S = 0.005
"""Without a job."""

log = structlog.get_logger(__name__)

QUEUED = Gauge("freshet_encoder_queued", "Users or items that wait for a batch.", ["lane"])
REFUSED = Counter("freshet_encoder_refused_total", "Users or items not computed.", ["lane", "why"])
BATCH_SIZE = Histogram(
    "freshet_encoder_batch_size",
    "Users or items of a batch.",
    ["lane"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
QUEUE_SECONDS = Histogram(
    "freshet_encoder_queue_seconds", "Wait for a batch.", ["lane"], buckets=LATENCY_BUCKETS_S
)
COMPUTE_SECONDS = Histogram(
    "freshet_encoder_compute_seconds", "One batch.", ["lane"], buckets=LATENCY_BUCKETS_S
)


class Chores(Protocol):
    """Work that can wait, bit by bit."""

    def is_due(self) -> bool:
        """Return whether there is any; asked on the event loop."""

    def do(self) -> None:
        """Do a bit of it, on the thread; what fails is not due again."""


class Batcher(Generic[In, Ready, Out]):
    """One lane of work. Make it inside the running loop."""

    def __init__(
        self,
        lane: str,
        prepare: Callable[[Sequence[In]], Ready],
        compute: Callable[[Ready], Sequence[Out]],
        thread: LaneThread,
        *,
        max_tokens: int,
        max_wait_ms: float,
        max_queued: int,
        chores: Chores | None = None,
    ) -> None:
        """
        Args:
            lane: name in the metrics.
            prepare: what Python does of a batch first; runs on the thread, as all that follows.
            compute: maps a prepared batch to results in its order.
            thread: may be shared with other lanes.
            max_tokens: budget of a batch; a single item may exceed it.
            max_wait_ms: how long the first job of an idle worker waits for others.
            max_queued: items waiting, beyond which `submit` raises Overloaded.
            chores: to do on the thread when no job has come for a while.
        """
        self._lane, self._thread = lane, thread
        self._prepare, self._compute = prepare, compute
        self._max_tokens, self._max_wait_s = max_tokens, max_wait_ms / 1000
        self._max_queued, self._chores = max_queued, chores
        self._jobs: deque[Job[In, Out]] = deque()
        self._n_queued = 0
        self._lock = threading.RLock()
        self._is_busy = False
        """Whether a turn is under way, or will be."""
        self._is_closed = False
        self._idle: asyncio.TimerHandle | None = None
        """Counts the time without a job."""
        self._queued = QUEUED.labels(lane)
        self._queue_seconds = QUEUE_SECONDS.labels(lane)
        self._batch_size = BATCH_SIZE.labels(lane)
        self._compute_seconds = COMPUTE_SECONDS.labels(lane)
        self._loop = asyncio.get_running_loop()

    def reserve(self, n_items: int) -> None:
        """Raise Overloaded when `n_items` more would not fit."""
        if self._n_queued + n_items > self._max_queued:
            REFUSED.labels(self._lane, "overloaded").inc(n_items)
            raise Overloaded(
                f"the encoder's queue is full ({self._n_queued} waiting); try again later",
                retry_after_s=0.2,
            )

    def submit(
        self, items: Sequence[In], n_tokens: Sequence[int], deadline: float | None
    ) -> Awaitable[Sequence[Out]]:
        """Queue what one caller wants; await its results, in its order, or cancel that to withdraw.

        Args:
            n_tokens: of each item.
            deadline: time.monotonic()

        Raises:
            Overloaded: at once, where the queue has no room for all of it.
            TooLate: when awaited; `deadline` came before a batch did.
        """
        self.reserve(len(items))
        parts = [self._enqueue(*part, deadline) for part in self._within(items, n_tokens)]
        self._wake()
        # Each future and task that stands between costs a round of the event loop.
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _within(
        self, items: Sequence[In], n_tokens: Sequence[int]
    ) -> Iterator[tuple[Sequence[In], int]]:
        """Cut items into parts within a batch's budget; yield each with its tokens."""
        first, total = 0, 0
        for place, size in enumerate(n_tokens):
            if place > first and total + size > self._max_tokens:
                yield items[first:place], total
                first, total = place, 0
            total += size
        if first < len(items):
            yield items[first:], total

    def _enqueue(
        self, items: Sequence[In], n_tokens: int, deadline: float | None
    ) -> "asyncio.Future[Sequence[Out]]":
        done: asyncio.Future[Sequence[Out]] = self._loop.create_future()
        self._count(len(items))
        self._jobs.append(Job(items, n_tokens, deadline, time.monotonic(), done))
        return done

    def _count(self, n_items: int) -> None:
        with self._lock:
            self._n_queued += n_items
            self._queued.set(self._n_queued)

    async def close(self) -> None:
        """Stop; jobs that wait are cancelled."""
        self._is_closed = True
        with self._lock:  # a turn that takes its batch shall find the queue as it was, or empty
            jobs = list(self._jobs)
            self._jobs.clear()
        for job in jobs:
            job.done.cancel()

    def _wake(self) -> None:
        """See to it that there is a turn."""
        if self._idle is not None:
            self._idle.cancel()
        with self._lock:
            if self._is_busy:
                return  # its end finds the new jobs
            self._is_busy = True
        n_tokens = sum(job.n_tokens for job in self._jobs)
        if self._max_wait_s and n_tokens < self._max_tokens:
            self._loop.call_later(self._max_wait_s, self._queue, self._turn)
        else:
            self._queue(self._turn)

    def _queue(self, turn: Callable[[], None]) -> None:
        """Queue a turn behind those of other lanes."""
        if not self._is_closed:
            self._thread.executor.submit(turn)

    def _turn(self) -> None:
        """Compute a batch, and come again while jobs wait; on the thread, for on the event loop
        the next batch would wait for all that the loop has to do."""
        batch, refused = self._take()
        self._thread.hold(refused)
        if batch:
            self._thread.hold(self._answers(batch))
        self._rest()

    def _rest(self) -> None:
        """End a turn, on the thread."""
        with self._lock:
            self._is_busy = bool(self._jobs)
        if self._is_busy:
            self._queue(self._turn)
            return
        self._thread.let_go()
        if self._chores is not None:
            self._loop.call_soon_threadsafe(self._fall_idle)

    def _fall_idle(self) -> None:
        """Start counting the time without a job."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(IDLE_AFTER_S, self._tidy)

    def _tidy(self) -> None:
        """Do what can wait, if no job has come since."""
        assert self._chores is not None
        with self._lock:
            if self._is_busy or not self._chores.is_due():
                return
            self._is_busy = True
        self._queue(self._do_chores)

    def _do_chores(self) -> None:
        assert self._chores is not None
        self._thread.let_go()
        try:
            self._chores.do()
        except Exception:
            log.exception("chores_failed", lane=self._lane)
        self._rest()

    def _take(self) -> tuple[list[Job[In, Out]], list[Answer[In, Out]]]:
        """Pop the oldest jobs that fit the budget, but for those nobody waits for, and refuse what
        is too late."""
        now = time.monotonic()
        batch: list[Job[In, Out]] = []
        refused: list[Answer[In, Out]] = []
        n_tokens = 0
        with self._lock:
            while self._jobs:
                job = self._jobs[0]
                if batch and n_tokens + job.n_tokens > self._max_tokens:
                    break
                self._jobs.popleft()
                self._count(-len(job.items))
                if job.done.done():
                    REFUSED.labels(self._lane, "cancelled").inc(len(job.items))
                elif job.deadline is not None and now >= job.deadline:
                    REFUSED.labels(self._lane, "too_late").inc(len(job.items))
                    refused.append((job, TooLate("the deadline passed in the encoder's queue")))
                else:
                    batch.append(job)
                    n_tokens += job.n_tokens
                    self._queue_seconds.observe(now - job.arrived)
        return batch, refused

    def _answers(self, batch: list[Job[In, Out]]) -> list[Answer[In, Out]]:
        items = [item for job in batch for item in job.items]
        self._batch_size.observe(len(items))
        try:
            with self._compute_seconds.time():
                ready = self._prepare(items)
                self._thread.let_go()
                outs = self._compute(ready)
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
            log.exception("batch_failed", lane=self._lane, n_jobs=len(batch))
            return [answer for job in batch for answer in self._answers([job])]
        ends = itertools.accumulate(len(job.items) for job in batch)
        return [
            (job, outs[end - len(job.items) : end]) for job, end in zip(batch, ends, strict=True)
        ]


async def _joined(parts: "Sequence[asyncio.Future[Sequence[Out]]]") -> list[Out]:
    return list(itertools.chain.from_iterable(await asyncio.gather(*parts)))
