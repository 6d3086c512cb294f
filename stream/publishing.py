"""Interests on their way to rec.interests, and what is remembered of them once they are durable."""

import structlog
from aiokafka.errors import KafkaError

from infra.kafka_topics import Topics
from protos.rec.v1.encoder_pb2 import UserResult
from protos.rec.v1.interests_pb2 import Tier, UserInterests
from stream.blocks import BlockStore
from stream.metrics import WorkerMetrics
from stream.outbox import Outbox, Outgoing
from stream.partition import Partition, User
from stream.states import Cut, interests_record, plain_record
from stream.store import Published

log = structlog.get_logger(__name__)


class InterestsPublisher:
    def __init__(
        self, outbox: Outbox, blocks: BlockStore, topics: Topics, metrics: WorkerMetrics
    ) -> None:
        self._outbox, self._blocks, self._topics, self._metrics = outbox, blocks, topics, metrics

    async def publish(self, cut: Cut, result: UserResult) -> bool:
        """Publish the interests of a cut; False when Kafka did not take them."""
        applied = cut.partition.user(cut.user_key).head.watermark
        interests = result.interests
        record = interests_record(cut, interests, applied)
        if not await self._deliver(cut.partition, cut.user_key, record):
            return False
        if cut.is_wanted:
            published = Published(
                cut.encoded_offset,
                interests.model_version,
                interests.model_sequence,
                interests.tier,
                cut.state.n_events,
            )
            cut.partition.put_published(cut.user_key, published)
            keep_blocks(self._blocks, cut, result)
            self._metrics.published.labels(Tier.Name(interests.tier)).inc()
        return True

    async def publish_plain(self, partition: Partition, user: User) -> bool:
        """Publish that the records of a user without events were disposed of."""
        record = plain_record(partition, user)
        if not await self._deliver(partition, user.key, record):
            return False
        if partition.is_open and partition.user(user.key).head.n_events == 0:
            partition.put_published(user.key, Published(record.encoded_offset))
            self._metrics.published.labels("NONE").inc()
        return True

    async def _deliver(self, partition: Partition, user_key: bytes, record: UserInterests) -> bool:
        value = record.SerializeToString()
        outgoing = Outgoing(self._topics.interests, user_key, value, partition.number)
        try:
            await (await self._outbox.send(outgoing))
        except KafkaError as error:
            log.warning("interests_not_published", error=str(error))
            return False
        return True


def keep_blocks(blocks: BlockStore, cut: Cut, result: UserResult) -> None:
    """Keep the memory of closed segments that an encoder has returned for a cut."""
    if not result.closed_blocks:
        return
    index_of = {name: index for index, name in cut.block_names.items()}
    number = cut.partition.number
    for block in result.closed_blocks:
        if block.digest in index_of:
            blocks.put(number, cut.user_key, index_of[block.digest], block.digest, block.memory)
