"""Wiring of the stream worker: one faust app, one agent, and what stands beside it.

`StreamService` is started before the faust app and stopped after it, in one event loop:

    rec.events --agent--> Folder --> Partition (cache) --Checkpointer--> changelog, RocksDB, commit
                             |--> Refresher --> encoder --> rec.interests
                             |--> Trending  --> rec.trending
                             |--> Outbox    --> rec.seen, dead letters, the right partition
    rec.items  --ItemEncoder--> encoder --> rec.item-vectors --follower--> Catalogue
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import faust
import structlog
from aiokafka.errors import IllegalStateError
from faust.types import TP, StreamT
from google.protobuf.message import DecodeError

from infra.kafka_follower import Follower, Record
from infra.kafka_topics import Topics
from infra.settings import SharedSettings
from protos.actions import declared_actions
from protos.history import Shape
from protos.segments import NO_CODEBOOK
from stream.blocks import BlockStore
from stream.catalogue import Catalogue
from stream.changelog import KafkaChangelog
from stream.checkpoint import Checkpointer
from stream.encoder_client import EncoderClient
from stream.encoder_pool import EncoderPool
from stream.faust_seams import N_WAITING_RUNS, Run, RunConsumer, RunSchema
from stream.folding import Folder, LogRecord
from stream.items import ItemEncoder
from stream.kafka_clients import (
    app_id,
    items_consumer,
    new_app,
    plain_consumer,
    started_producer,
)
from stream.lease import Lease
from stream.metrics import WorkerMetrics
from stream.open_feeds import OpenFeeds
from stream.outbox import KafkaOutbox
from stream.partition import Arrival, Partition
from stream.publishing import InterestsPublisher
from stream.refresh import Refresher
from stream.settings import StreamSettings, worker_folder
from stream.table import HistoryTable
from stream.trending_feed import TrendingFeed

log = structlog.get_logger(__name__)

STEP_EVENTS = 128
"""Folded between two looks at the rest of the event loop, or one record more: about 3 ms."""

LOOK_S = 0.5
"""Between two looks at the lag."""

BEHIND_RECORDS, BEHIND_S = 128, 1.0
"""With more records waiting than this, and more than are folded in this time, folding goes before
refreshing."""


class StreamService(faust.Service):
    """All of the worker. `app` is the faust app; give both to a faust.Worker."""

    def __init__(
        self,
        shared: SharedSettings,
        settings: StreamSettings,
        *,
        metrics: WorkerMetrics,
        on_ready: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        shape: Shape | None = None,
    ) -> None:
        """
        Args:
            on_ready: called each time that events are about to flow: at first, and after each
                rebalance.
            on_failure: must end the process.
        """
        super().__init__()
        self._shared, self._settings, self._metrics = shared, settings, metrics
        self._on_ready, self._on_failure = on_ready, on_failure
        self._topics = Topics(shared.topic_prefix)
        self._shape = shape or Shape()
        self.app = new_app(shared, settings, self._topics)
        self._table = HistoryTable(
            self.app,
            name="histories",
            partitions=shared.n_partitions,
            shape=self._shape,
            n_cached=settings.cached_users,
            on_assigned=self._assigned,
            on_owned=self._owned,
            on_stopping=self._stopping,
        )
        self.app.tables.add(self._table)
        self._add_agent()
        self.app.on_partitions_revoked.connect(self._revoked)
        self._stale_reads: dict[int, int] = {}
        self._loops: list[asyncio.Task[None]] = []

    def _add_agent(self) -> None:
        events = self.app.topic(
            self._topics.events, schema=RunSchema(), acks=False, maxsize=N_WAITING_RUNS
        )

        async def fold_events(stream: StreamT[Run]) -> None:
            assert isinstance(stream, faust.Stream)
            async for run in stream.noack():
                try:
                    await self._fold_run(run)
                except Exception as error:  # an agent that raises would drop the run
                    self._fail(error)
                    raise

        self.app.agent(events, name="fold_events", concurrency=1)(fold_events)

    # -- start and stop ------------------------------------------------------------------------

    async def on_start(self) -> None:
        shared, settings, topics = self._shared, self._settings, self._topics
        folder = worker_folder(shared.state, settings.instance)
        client = f"{app_id(topics)}-{settings.instance}"
        self._changelog = KafkaChangelog(shared.kafka_bootstrap, topics.histories, client)
        self._producer = await started_producer(shared, f"{client}-out")
        self._lease = Lease(settings.session_timeout_s, self._fail)
        self._outbox = KafkaOutbox(self._producer, self._lease)
        self._encoder = EncoderPool(
            {address: EncoderClient(address, self._shape) for address in shared.encoders}
        )
        self._catalogue = Catalogue(self._shape.n_levels, self._metrics.ambiguous_codes.inc)
        self._blocks = BlockStore(folder / "blocks")
        loop = asyncio.get_running_loop()
        self._open_feeds = OpenFeeds(
            lambda key: _call_soon(loop, lambda: self._refresher.promote(key))
        )
        self._refresher = Refresher(
            self._table.owned,
            encoder=self._encoder,
            catalogue=self._catalogue,
            open_feeds=self._open_feeds,
            blocks=self._blocks,
            publisher=InterestsPublisher(self._outbox, self._blocks, topics, self._metrics),
            metrics=self._metrics,
            requests_in_flight=settings.requests_in_flight,
            light_above=settings.light_above,
        )
        self._trending = TrendingFeed(
            shared.kafka_bootstrap,
            topics,
            self._outbox,
            self._catalogue.categories_of,
            settings.trending_interval_s,
        )
        self._folder = Folder(
            topics,
            shared.n_partitions,
            actions=dict(declared_actions()),
            catalogue=self._catalogue,
            codebook_version=self._codebook_version,
            outbox=self._outbox,
            refreshes=self._refresher,
            metrics=self._metrics,
        )
        self._checkpointer = Checkpointer(
            self._table.owned,
            changelog=self._changelog,
            outbox=self._outbox,
            commit=self._commit,
            metrics=self._metrics,
            on_failure=self._fail,
            interval_s=settings.checkpoint_interval_s,
            n_events=settings.checkpoint_events,
        )
        self._items = ItemEncoder(
            encoder=self._encoder,
            catalogue=self._catalogue,
            outbox=self._outbox,
            topics=topics,
            metrics=self._metrics,
            model_version=self._model_version,
            new_consumer=lambda: items_consumer(shared, settings, topics),
            new_reader=lambda: plain_consumer(shared),
        )
        self._followers = [
            self._follow(topics.item_vectors, self._learn_items),
            self._follow(topics.open_feeds, self._open_feeds.handle),
        ]
        self._loops = [
            self._spawn(self._lease.run()),
            self._spawn(self._checkpointer.run()),
            self._spawn(self._trending.run()),
            self._spawn(self._refresher.watch_model()),
            self._spawn(self._with_catalogue()),
            self._spawn(self._watch_lag()),
        ]

    async def on_stop(self) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._refresher.revoked()
        self._trending.close()
        for follower in self._followers:
            await asyncio.to_thread(follower.stop)
        await self._producer.stop()
        await self._changelog.close()
        await self._encoder.close()
        self._blocks.close()

    def _follow(self, topic: str, handle: Callable[[Sequence[Record]], None]) -> Follower:
        loop = asyncio.get_running_loop()
        follower = Follower(
            self._shared.kafka_bootstrap,
            topic,
            handle,
            on_failure=lambda error: _call_soon(loop, lambda: self._fail(error)),
            poll_ms=100,
        )
        follower.start()
        return follower

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._loop_ended)
        return task

    def _loop_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        log.error("worker_fails", exc_info=error)
        self._on_failure(error)

    # -- the fold ------------------------------------------------------------------------------

    async def _fold_run(self, run: Run) -> None:
        number = run.records[0].partition
        partition = self._table.owned.get(number)
        if partition is None or run.read_number <= self._stale_reads.get(number, 0):
            return
        place: int | None = 0
        while place is not None and place < len(run.records):
            await self._checkpointer.wait_below_limit()
            if not partition.is_open:
                return
            place = self._fold_some(partition, run.records, place)
            await self._outbox.push()
            await asyncio.sleep(0)
        if place is None:
            await self._read_again(partition)

    def _fold_some(
        self, partition: Partition, records: Sequence[LogRecord], place: int
    ) -> int | None:
        """Fold records in order, from a place on; return the place of the next, None at a gap."""
        trending = self._trending.of(partition.number)
        n_events, n_lost, is_gap = 0, partition.n_lost_offsets, False
        with self._metrics.fold_seconds.time():
            while n_events < STEP_EVENTS and place < len(records) and not is_gap:
                record = records[place]
                arrival = partition.arrive(record.offset)
                if arrival is Arrival.APPLY:
                    n_events += self._folder.apply(partition, trending, record)
                elif arrival is Arrival.SKIP:
                    self._metrics.records.labels("redelivered").inc()
                else:
                    is_gap = True
                place += 1
        self._folder.report()
        self._checkpointer.count(n_events)
        self._metrics.lost_offsets.inc(partition.n_lost_offsets - n_lost)
        return None if is_gap else place

    async def _read_again(self, partition: Partition) -> None:
        self._metrics.rereads.inc()
        assert partition.next_offset is not None
        tp = TP(self._topics.events, partition.number)
        try:
            await self._consumer.seek_wait({tp: partition.next_offset})
        except IllegalStateError:
            return  # no longer assigned: its next owner begins at the committed offset
        self._stale_reads[partition.number] = self._consumer.read_number

    async def _commit(self, positions: Mapping[int, int]) -> None:
        topic = self._topics.events
        offsets = {TP(topic, number): offset for number, offset in positions.items()}
        await self._consumer.commit_positions(offsets)

    @property
    def _consumer(self) -> RunConsumer:
        consumer = self.app.consumer
        assert isinstance(consumer, RunConsumer)
        return consumer

    # -- what the table and the group say --------------------------------------------------------

    async def _assigned(self, partitions: set[int]) -> None:
        try:
            await self._changelog.claim(partitions)
        except Exception as error:
            self._fail(error)
            raise

    async def _owned(self) -> None:
        owned = self._table.owned
        self._stale_reads.clear()
        self._blocks.keep_only(owned)
        self._trending.owned(owned)
        for partition in owned.values():
            self._refresher.assigned(partition)
        self._metrics.ready.set(1)
        log.info("partitions_owned", partitions=sorted(owned))
        self._on_ready()

    async def _revoked(self, *args: Any, **kwargs: Any) -> None:
        self._metrics.ready.set(0)
        await self._checkpointer.flush()
        self._table.drop_all()
        await self._refresher.revoked()

    async def _stopping(self) -> None:
        self._metrics.ready.set(0)
        await self._checkpointer.flush()

    # -- what stands beside ------------------------------------------------------------------

    def _codebook_version(self) -> int:
        model = self._refresher.model
        return model.codebook if model is not None else NO_CODEBOOK

    def _model_version(self) -> str | None:
        model = self._refresher.model
        return model.model_version if model is not None else None

    def _learn_items(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self._catalogue.apply(record.key, record.value, record.partition, record.offset)
            except (DecodeError, ValueError) as error:
                log.warning("item_vector_unreadable", offset=record.offset, error=str(error))
        self._metrics.catalogue_items.set(len(self._catalogue))

    async def _with_catalogue(self) -> None:
        """Refresh and encode once the catalogue is loaded; folding does not wait for it."""
        await asyncio.to_thread(self._followers[0].caught_up.wait)
        log.info("catalogue_loaded", n_items=len(self._catalogue))
        await asyncio.gather(self._refresher.run(), self._items.run())

    async def _watch_lag(self) -> None:
        position = 0
        while True:
            await asyncio.sleep(LOOK_S)
            before, position = position, 0
            waiting = 0
            for number, partition in self._table.owned.items():
                end = self._consumer.highwater(TP(self._topics.events, number))
                if end is not None and partition.next_offset is not None:
                    lag = max(0, end - partition.next_offset)
                    self._metrics.lag.labels(str(number)).set(lag)
                    waiting += lag
                    position += partition.next_offset
            foldable = max(0, position - before) / LOOK_S * BEHIND_S
            self._refresher.fold_is_behind(waiting > max(BEHIND_RECORDS, foldable))


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call on the loop from another thread; nothing when the loop has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(functools.partial(call))
