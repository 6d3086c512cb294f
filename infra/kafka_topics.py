"""The topics: names, what they keep, and how many partitions (design section 3).

rec.events and what is keyed by user share one partition count, so that a user stands on the same
number in each.
Every topic uses LogAppendTime: a timestamp is the broker's word, never a producer's.
"""

from dataclasses import dataclass

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.partitioner.default import murmur2

from infra.kafka_broker import await_broker, unreachable
from protos.errors import DependencyDown, VersionMismatch
from protos.keys import compose_key

CONNECT_S = 10.0
WEEK_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Topics:
    """Names under one prefix ("rec" unless two Freshets share a Kafka)."""

    prefix: str = "rec"

    @property
    def events(self) -> str:
        return f"{self.prefix}.events"

    @property
    def items(self) -> str:
        return f"{self.prefix}.items"

    @property
    def item_vectors(self) -> str:
        return f"{self.prefix}.item-vectors"

    @property
    def interests(self) -> str:
        return f"{self.prefix}.interests"

    @property
    def seen(self) -> str:
        return f"{self.prefix}.seen"

    @property
    def open_feeds(self) -> str:
        return f"{self.prefix}.open-feeds"

    @property
    def trending(self) -> str:
        return f"{self.prefix}.trending"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}.events.dlq"

    @property
    def histories(self) -> str:
        """The changelog of the stream worker's table; the name is faust's."""
        return f"{self.prefix}-stream-histories-changelog"

    def all(self) -> dict[str, dict[str, str]]:
        """Return the configuration of every topic by name."""
        kept = {"cleanup.policy": "delete", "retention.ms": str(WEEK_MS)}
        # Small segments, so that a compacted topic of small values does get compacted.
        compacted = {"cleanup.policy": "compact", "segment.bytes": str(64 * 2**20)}
        configs = dict.fromkeys((self.events, self.dead_letters), kept)
        for name in (self.items, self.item_vectors, self.interests, self.seen):
            configs[name] = compacted
        for name in (self.open_feeds, self.trending, self.histories):
            configs[name] = compacted
        stamp = {"message.timestamp.type": "LogAppendTime"}
        return {name: config | stamp for name, config in configs.items()}


def user_partition(tenant: str, user_id: str, n_partitions: int) -> int:
    """Return the partition of a user in every topic keyed by user: Kafka's murmur2 of the key."""
    return key_partition(compose_key(tenant, user_id), n_partitions)


def key_partition(key: bytes, n_partitions: int) -> int:
    """Return the partition that Kafka's default partitioner gives a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % n_partitions)


def ensure_topics(
    bootstrap: str, topics: Topics, *, n_partitions: int, replication: int = 1
) -> None:
    """Create the topics that are missing; safe to call from several processes at once.

    Raises:
        DependencyDown: Kafka cannot be reached.
        VersionMismatch: rec.events exists with another partition count. Histories are kept by
        partition, so
            changing it would corrupt their watermarks; the message says what an operator does
            instead.
    """
    await_broker(bootstrap, CONNECT_S)
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    except KafkaError as error:
        raise unreachable(bootstrap, error) from error
    try:
        missing = set(topics.all()) - set(admin.list_topics())
        for name in sorted(missing):
            _create(admin, name, topics.all()[name], n_partitions, replication)
    finally:
        admin.close()
    found = partition_count(bootstrap, topics.events)
    if found != n_partitions:
        raise VersionMismatch(
            f"{topics.events} has {found} partitions, FRESHET_N_PARTITIONS says {n_partitions}; "
            f"set it to {found}, or create new topics under another FRESHET_TOPIC_PREFIX and "
            "replay the events into them"
        )


def _create(
    admin: KafkaAdminClient, name: str, config: dict[str, str], n_partitions: int, replication: int
) -> None:
    options = {
        "num_partitions": n_partitions,
        "replication_factor": replication,
        "configs": config,
    }
    try:
        admin.create_topics({name: options}, timeout_ms=30_000, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        return
    except KafkaError as error:
        raise DependencyDown(f"Kafka did not create {name}: {error}") from error


def partition_count(bootstrap: str, topic: str) -> int:
    """Return how many partitions a topic has; 0 when it does not exist. Raises DependencyDown."""
    await_broker(bootstrap, CONNECT_S)
    try:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap)
        try:
            return len(consumer.partitions_for_topic(topic) or ())
        finally:
            consumer.close()
    except KafkaError as error:
        raise unreachable(bootstrap, error) from error
