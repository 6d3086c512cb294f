"""Trending lists to and from Kafka: published while they change, taken up where the last owner of a
partition left them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import structlog
from aiokafka.errors import KafkaError
from google.protobuf.message import DecodeError

from infra.kafka_follower import Follower, Record
from infra.kafka_topics import Topics
from protos.keys import compose_key
from protos.rec.v1.interests_pb2 import TrendingList
from stream.outbox import Outbox, Outgoing
from stream.trending import CategoriesOf, Trending

log = structlog.get_logger(__name__)

READ_TIMEOUT_S = 30.0


class TrendingFeed:
    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        outbox: Outbox,
        categories_of: CategoriesOf,
        interval_s: float,
    ) -> None:
        self._bootstrap, self._topics, self._outbox = bootstrap, topics, outbox
        self._categories_of, self._interval_s = categories_of, interval_s
        self._counts: dict[int, Trending] = {}
        self._ready: set[int] = set()
        """Partitions whose published lists have been taken up; no others are published."""
        self._restoring: asyncio.Task[None] | None = None

    def of(self, partition: int) -> Trending:
        """Return the counts of an owned partition."""
        return self._counts[partition]

    def owned(self, partitions: Iterable[int]) -> None:
        """Begin to count these partitions and no others."""
        self._stop_restoring()
        self._ready.clear()
        self._counts = {number: Trending(number, self._categories_of) for number in partitions}
        if self._counts:
            self._restoring = asyncio.create_task(self._restore(self._counts))

    async def run(self) -> None:
        """Publish what changed, for ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            for number in sorted(self._ready):
                await self._publish(self._counts[number])

    def close(self) -> None:
        self._stop_restoring()

    async def _publish(self, counts: Trending) -> None:
        deliveries = [await self._outbox.send(self._record(one)) for one in counts.take_changed()]
        results = await asyncio.gather(*deliveries, return_exceptions=True)
        for error in results:
            if isinstance(error, KafkaError):  # the next change publishes the list anew
                log.warning("trending_not_published", error=str(error))

    def _record(self, published: TrendingList) -> Outgoing:
        key = compose_key(published.tenant, published.category, str(published.partition))
        return Outgoing(self._topics.trending, key, published.SerializeToString())

    async def _restore(self, counts: Mapping[int, Trending]) -> None:
        lists = await asyncio.to_thread(
            read_published, self._bootstrap, self._topics.trending, set(counts)
        )
        if self._counts is counts:
            for published in lists:
                counts[published.partition].merge(published)
            self._ready = set(counts)

    def _stop_restoring(self) -> None:
        if self._restoring is not None:
            self._restoring.cancel()
            self._restoring = None


def read_published(bootstrap: str, topic: str, partitions: set[int]) -> Sequence[TrendingList]:
    """Return the newest list of each category of these partitions. Blocks."""
    newest: dict[bytes, TrendingList] = {}

    def handle(records: Sequence[Record]) -> None:
        for record in records:
            try:
                published = TrendingList.FromString(record.value or b"")
            except DecodeError:
                log.warning("trending_unreadable", partition=record.partition, offset=record.offset)
                continue
            if published.items and published.partition in partitions:
                newest[record.key] = published

    def fail(error: BaseException) -> None:
        log.warning("trending_not_restored", error=str(error))

    follower = Follower(bootstrap, topic, handle, on_failure=fail, poll_ms=100)
    follower.start()
    if not follower.caught_up.wait(READ_TIMEOUT_S):
        log.warning("trending_not_restored", error=f"{topic} took more than {READ_TIMEOUT_S:g} s")
    follower.stop()
    return list(newest.values())
