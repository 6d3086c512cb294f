"""The one place that leans on private names of faust 0.15.3 (the version is pinned in
pyproject.toml); tests/stream/test_faust_seams.py asks for each of them.

Why each is needed:

* `Consumer._drain_messages`: faust's own awaits a dozen times for each message. Ours hands the
  agent runs of up to `RUN_LENGTH` records of one partition as one message (a `Run`), so that an
  event costs its fold. It also forgoes faust's read-offset check there, which drops records that
  are read again after a seek; `Partition.arrive` does that work, exactly. And what it cannot
  deliver it reads again.
* `Consumer._wait_next_records`, `_stopped`, `_read_offset`, `_committed_offset`, `_thread`: what
  that loop is made of, and commits of our own offsets (the topic has `acks=False`).
* `App.flow_control`: faust resumes the flow several times in a rebalance, and empties all queues
  each time. What was delivered since the first time would be lost: records of a standby's changelog
  for ever, events until the next one of their partition shows the gap.
* `Recovery._wait`: where faust waits for the end of a recovery it swallows the error by which a
  rebalance interrupts it, and goes on as if the tables were complete: it hands out partitions of
  which only a beginning was read, or seeks to an offset that it does not know. Ours stops it at
  its next step.
* `Store._db_for_partition`, `Store.offset_key`: states and faust's own changelog offset go to
  RocksDB in one batch.

Everything else (subscription, assignment, recovery of tables, flow control) is faust's, unchanged.
"""

import asyncio
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import faust
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from faust.stores import rocksdb
from faust.tables import TableManager, recovery
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.objects import cached_property
from mode.utils.queues import FlowControlEvent
from rocksdict import Rdict

from infra.rocks import batch_of, items_of

RUN_LENGTH = 512
"""Records a message: 64 such runs wait for the agent at most."""
N_WAITING_RUNS = 64

PRIVATE_NAMES: tuple[tuple[type, str], ...] = (
    (driver.Consumer, "_drain_messages"),
    (driver.Consumer, "_wait_next_records"),
    (driver.Consumer, "_to_message"),
    (driver.AIOKafkaConsumerThread, "commit"),
    (faust.App, "flow_control"),
    (recovery.Recovery, "_wait"),
    (TableManager, "_recovery"),
    (rocksdb.Store, "_db_for_partition"),
    (rocksdb.Store, "offset_key"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records of one partition, as one read returned them."""

    records: Sequence[Any]
    """aiokafka ConsumerRecords"""
    read_number: int
    """Which read; after a seek, runs of earlier reads are stale."""


class RunSchema(faust.Schema[Any, Any]):
    """Passes runs through to the agent as they are."""

    def compile(self, app: Any, **kwargs: Any) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode


class RunConsumer(driver.Consumer):
    """faust's Kafka consumer, delivering some topics in runs."""

    run_topics: ClassVar[frozenset[str]] = frozenset()
    """Set by `runs_of` on a subclass."""
    read_number: int = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._n_seeks = 0
        self._seeking = asyncio.Lock()
        self._sought: dict[TP, int] = {}
        """Where a seek has put partitions from which nothing was delivered since."""

    # The queue of the agent holds N_WAITING_RUNS; a full one makes the loop below wait. faust would
    # also stop reading the partition, and then look only once a second whether it may go on.
    def on_buffer_full(self, tp: TP) -> None: ...

    def on_buffer_drop(self, tp: TP) -> None: ...

    async def commit_positions(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the next offset of partitions; those that are no longer ours are left out."""
        return bool(await self._thread.commit(offsets))

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        self._n_seeks += 1
        self._sought |= partitions
        await super().seek_wait(partitions)

    async def perform_seek(self) -> None:
        """Seek to what the group has committed, and to the beginning where it has nothing yet.

        faust leaves those where they are: behind what was read ahead and dropped by a rebalance.
        Events flow while it seeks, so a read that is under way at either end is looked at again.
        """
        async with self._seeking:
            self._n_seeks += 1
            try:
                await super().perform_seek()
                mine = {ensure_TP(tp) for tp in self.assignment()}
                runs = {tp for tp in mine if tp.topic in self.run_topics}
                begins = {tp: self._committed_offset.get(tp) for tp in runs}
                new = [TopicPartition(*tp) for tp, offset in begins.items() if offset is None]
                earliest = await self.earliest_offsets(*new) if new else {}
                await super().seek_wait(earliest)
                self._sought |= {tp: begins[tp] or earliest[TopicPartition(*tp)] for tp in runs}
            finally:
                self._n_seeks += 1

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                self.read_number += 1
                number, n_seeks = self.read_number, self._n_seeks
                read, active = await self._wait_next_records(1.0)
                await asyncio.sleep(0)
                if read is None or self.should_stop:
                    continue
                records: Mapping[Any, Sequence[Any]] = read
                # A read that was under way while recovery sought belongs before the seek or after
                # it: unknown. Delivered, it could leave a hole in a table; dropped, recovery would
                # wait for the end of its changelog for ever.
                if not self.flow_active or n_seeks != self._n_seeks:
                    records = await self._settled(records)
                generation = self.app.consumer_generation_id
                for tp, found in records.items():
                    if not await self._deliver(ensure_TP(tp), found, active, generation, number):
                        break
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _deliver(
        self, tp: TP, found: Sequence[Any], active: Any, generation: int, number: int
    ) -> bool:
        """Hand one partition's records over; False when a rebalance made them void."""
        if active is not None and tp not in active:
            return True
        for message in self._messages(tp, found, number):
            if not self.flow_active or generation != self.app.consumer_generation_id:
                return False
            self._sought.pop(tp, None)
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
            self._read_offset[tp] = message.offset
        return True

    def _messages(self, tp: TP, found: Sequence[Any], number: int) -> Iterator[Any]:
        if tp.topic not in self.run_topics:
            read = self._read_offset[tp]
            for record in found:
                if read is None or record.offset >= read:
                    yield self._to_message(tp, record)
            return
        for start in range(0, len(found), RUN_LENGTH):
            records = found[start : start + RUN_LENGTH]
            message: Any = self._to_message(tp, records[0])
            message.key, message.value = None, Run(records, number)
            yield message

    async def _settled(self, records: Mapping[Any, Sequence[Any]]) -> Mapping[TP, Sequence[Any]]:
        """Return runs that leave no hole after the newest seek; the others are read once more, from
        where a seek has put their partitions.

        To read all again would be as right, and slow: Kafka's client asks a broker for no more
        until the broker has answered, which it does after 1.5 s when nothing happens.
        """
        async with self._seeking:
            mine = self.assignment()
            found = {ensure_TP(tp): of for tp, of in records.items() if tp in mine}
            runs = {
                tp: of
                for tp, of in found.items()
                if tp.topic in self.run_topics and of[0].offset <= self._sought.get(tp, -1)
            }
            if not self.flow_active:
                runs = {}
            back = {
                tp: self._sought.get(tp, of[0].offset) for tp, of in found.items() if tp not in runs
            }
            try:
                await super().seek_wait(back)
            except IllegalStateError:
                self.log.info("A rebalance is under way, and seeks at its end")
                return {}
            return runs


def transport_of_runs(topics: Iterable[str]) -> type[driver.Transport]:
    """Return faust's Kafka transport, with the given topics delivered in runs."""
    names = frozenset(topics)

    class Consumer(RunConsumer):
        run_topics = names

    class Transport(driver.Transport):
        pass

    Transport.Consumer = Consumer
    return Transport


class FlowControl(FlowControlEvent):
    """faust's, which empties the queues when a flow that was stopped resumes, and only then."""

    def resume(self) -> None:
        if not self.is_active():
            super().resume()


class App(faust.App):
    """faust's app, with our flow control."""

    @cached_property
    def flow_control(self) -> FlowControlEvent:
        return FlowControl(loop=self.loop)


class Recovery(recovery.Recovery):
    """faust's recovery of tables, which begins anew whenever a rebalance has overtaken it."""

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109  # faust's
        if self.signal_recovery_start.is_set():
            if inspect.iscoroutine(coro):
                coro.close()
            raise recovery.RebalanceAgain
        await super()._wait(coro, timeout=timeout)


# It narrates each recovery, with tables, at info: under faust's name that is left out.
Recovery.logger = recovery.logger


class Tables(TableManager):
    """faust's manager of tables, with our recovery."""

    @property
    def recovery(self) -> recovery.Recovery:
        if self._recovery is None:
            self._recovery = Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class RocksDisk:
    """One partition of a faust table's RocksDB (a `stream.partition.Disk`)."""

    def __init__(self, store: rocksdb.Store, partition: int) -> None:
        self._store, self._partition = store, partition

    @property
    def _db(self) -> Rdict:
        # Looked up each time: a reference that outlived the partition would keep its lock.
        db: Rdict = self._store._db_for_partition(self._partition)
        return db

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def write(self, changes: Mapping[bytes, bytes | None], changelog_offset: int) -> None:
        batch = batch_of(changes)
        batch.put(self._store.offset_key, str(changelog_offset).encode())
        self._db.write(batch)

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from items_of(self._db, prefix)
