"""Fold, checkpoint, acknowledge: how folded state becomes durable.

Every 0.5 s or 5,000 events, under one lock, and a partition at a time:

    1  what was emitted (dead letters, seen segments, ...) is durable
    2  the changes go to the table's changelog topic, the position last      <- the state's home
    3  one RocksDB batch: the changes, and the changelog offset they reach   <- its copy
    4  the group's offsets are committed                                     <- a hint where to
    begin

Killed between 2 and 3, faust's recovery reads the changelog beyond the offset in RocksDB; the disk
is never ahead of the changelog. Killed between 3 and 4, Kafka redelivers, and the position in the
state skips what was applied. Killed before 2, the fold is done again.

A checkpoint that fails must end the process (`on_failure`): folds that are in memory but neither
durable nor dirty any more would be committed past by the next one. On revocation: `flush`, then
drop the partitions; what is folded after that belongs to their next owner.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from stream.metrics import WorkerMetrics
from stream.outbox import Outbox
from stream.partition import Changes, Partition
from stream.store import POSITION_KEY, unpack_position

log = structlog.get_logger(__name__)

LIMIT_FACTOR = 4
"""The fold waits once this many times the events of a checkpoint are not durable."""


class Changelog(Protocol):
    """The table's changelog topic."""

    async def append(self, partition: int, changes: Mapping[bytes, bytes | None]) -> int:
        """Write in order, wait for the broker, return the last offset. Raises KafkaError."""


Commit = Callable[[Mapping[int, int]], Awaitable[None]]
"""(offset of the next record, by partition of rec.events) -> None. One that no longer belongs to
this worker is left out without an error: the position in the state stands above it."""

OnFailure = Callable[[BaseException], None]
"""Ends the process."""


class Checkpointer:
    def __init__(
        self,
        partitions: Mapping[int, Partition],
        *,
        changelog: Changelog,
        outbox: Outbox,
        commit: Commit,
        metrics: WorkerMetrics,
        on_failure: OnFailure,
        interval_s: float,
        n_events: int,
    ) -> None:
        """
        Args:
            partitions: what this worker owns; looked at anew by each checkpoint.
            n_events: a checkpoint comes early after so many.
        """
        self._partitions, self._changelog, self._outbox = partitions, changelog, outbox
        self._commit, self._metrics, self._on_failure = commit, metrics, on_failure
        self._interval_s, self._n_events = interval_s, n_events
        self._lock = asyncio.Lock()
        self._n_pending = 0
        self._due = asyncio.Event()
        self._below_limit = asyncio.Event()
        self._below_limit.set()
        self._failed = False

    def count(self, n_events: int) -> None:
        """Say that events were folded."""
        self._n_pending += n_events
        if self._n_pending >= self._n_events:
            self._due.set()
        if self._n_pending >= LIMIT_FACTOR * self._n_events:
            self._below_limit.clear()

    async def wait_below_limit(self) -> None:
        """Back-pressure: wait while too many events are not durable."""
        await self._below_limit.wait()

    async def run(self) -> None:
        """Checkpoint for ever."""
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._due.wait()
            except TimeoutError:
                pass
            # Cancelled from outside (shutdown), a checkpoint that began is still completed.
            await asyncio.shield(self.flush())

    async def flush(self) -> None:
        """Make durable all that was folded before the call."""
        async with self._lock:
            if self._failed:
                return
            try:
                await self._flush()
            except Exception as error:
                self._failed = True
                log.exception("checkpoint_failed")
                self._on_failure(error)

    async def _flush(self) -> None:
        dirty = [partition for partition in self._partitions.values() if partition.is_dirty]
        self._due.clear()
        n_events, self._n_pending = self._n_pending, 0
        if dirty:
            await self._make_durable(dirty, n_events)
        self._below_limit.set()

    async def _make_durable(self, dirty: list[Partition], n_events: int) -> None:
        start = time.monotonic()
        taken: list[tuple[Partition, Changes]] = []
        for partition in dirty:
            taken.append((partition, partition.take_changes()))
            await asyncio.sleep(0)  # serialising one partition's heads may take 20 ms
        await self._outbox.settled()
        appends = [self._changelog.append(p.number, changes) for p, changes in taken]
        offsets = await asyncio.gather(*appends)
        for (partition, changes), offset in zip(taken, offsets, strict=True):
            partition.write(changes, offset)
        stored = {p.number: changes.get(POSITION_KEY) for p, changes in taken}
        await self._commit({n: unpack_position(value) for n, value in stored.items() if value})
        n_changes = sum(len(changes) for _, changes in taken)
        self._metrics.checkpointed(time.monotonic() - start, n_events, n_changes)
