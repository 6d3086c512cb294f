"""The histories as a faust table: faust assigns and recovers it, we write it.

faust knows of the table its name, its changelog topic and the offset that its RocksDB has reached;
so assignment beside rec.events, and recovery from the changelog (with an empty disk too), are its
own. Gets and sets of single keys are not used: the agent folds into `owned`, and a checkpoint
(stream/checkpoint.py) writes.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import faust
from faust.stores import rocksdb
from faust.types import TP

from protos.history import Shape
from stream.faust_seams import RocksDisk
from stream.partition import Partition

_BLOCK_CACHE_BYTES = 2**20
"""A partition; faust's default is 2 GiB. Heads are cached as objects, and the files by the system;
a larger one only makes the process grow for hours."""
_WRITE_BUFFER_BYTES = 4 * 2**20

# faust takes entries out of the mapping, so each table gets its own.
_ROCKSDB = {
    "block_cache_size": _BLOCK_CACHE_BYTES,
    "write_buffer_size": _WRITE_BUFFER_BYTES,
    "max_write_buffer_number": 2,
    "bloom_filter_size": 10,
}


class HistoryTable(faust.Table[bytes, bytes]):
    """Heads, closed segments, what was published, and positions; keys in stream/store.py."""

    def __init__(
        self,
        app: faust.App,
        *,
        partitions: int,
        shape: Shape,
        n_cached: int,
        on_assigned: Callable[[set[int]], Awaitable[None]],
        on_owned: Callable[[], Awaitable[None]],
        on_stopping: Callable[[], Awaitable[None]],
        **kwargs: Any,
    ) -> None:
        """
        Args:
            on_assigned: called with the partitions that are this worker's from now on, before
                their recovery begins.
            on_owned: called when recovery is complete and `owned` is filled, before events flow.
            on_stopping: called at shutdown while `owned` can still be written.
        """
        super().__init__(
            app,
            partitions=partitions,
            key_type=bytes,
            value_type=bytes,
            store="rocksdb://",
            options=dict(_ROCKSDB),
            **kwargs,
        )
        self.owned: dict[int, Partition] = {}
        """Partitions by number, from the end of recovery to revocation."""
        self._shape, self._n_cached = shape, n_cached
        self._on_assigned, self._on_owned, self._on_stopping = on_assigned, on_owned, on_stopping

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        # Not `assigned`: that has the partitions of standby replicas too, which others write.
        names = self.changelog_topic.topics
        active = self.app.assignor.assigned_actives()
        await self._on_assigned({tp.partition for tp in active if tp.topic in names})
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        await super().on_recovery_completed(active_tps, standby_tps)
        self.drop_all()
        assert isinstance(self.data, rocksdb.Store)
        for tp in sorted(active_tps):
            disk = RocksDisk(self.data, tp.partition)
            self.owned[tp.partition] = Partition(
                tp.partition, disk, self._shape, n_cached=self._n_cached
            )
        await self._on_owned()

    def drop_all(self) -> None:
        """Let go of all partitions. What was not checkpointed is folded again by their next
        owner."""
        for partition in self.owned.values():
            partition.is_open = False
        self.owned.clear()

    async def on_stop(self) -> None:
        await self._on_stopping()
        self.drop_all()
        await super().on_stop()
