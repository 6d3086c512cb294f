"""Where the log ends and what the group has committed, asked again and again, through outages."""

from collections.abc import Mapping
from dataclasses import dataclass

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from infra.kafka_broker import await_broker
from protos.errors import FreshetError
from stream.bench.world import N_PARTITIONS, StreamWorld
from stream.kafka_clients import app_id

_PATIENCE_MS = 3_000


@dataclass(frozen=True, slots=True)
class Positions:
    """By partition of rec.events."""

    ends: Mapping[int, int]
    committed: Mapping[int, int]
    """0 where nothing was committed yet."""

    @property
    def lag(self) -> int:
        """Records that are not committed."""
        return sum(self.ends.values()) - sum(self.committed.values())

    @property
    def n_committed(self) -> int:
        return sum(self.committed.values())

    def has_passed(self, ends: Mapping[int, int]) -> bool:
        """Whether every partition has committed something that came after these ends."""
        return all(self.committed[number] > end for number, end in ends.items())


class PositionWatch:
    """Keeps its two clients for as long as they work: new ones at each look would cost the machine
    more than what is measured."""

    def __init__(self, world: StreamWorld) -> None:
        self._bootstrap, self._group = world.bootstrap, app_id(world.topics)
        topic = world.topics.events
        self._places = [TopicPartition(topic, number) for number in range(N_PARTITIONS)]
        self._clients: tuple[KafkaConsumer, KafkaAdminClient] | None = None

    def look(self) -> Positions | None:
        """Ask once; None while Kafka does not answer."""
        try:
            await_broker(self._bootstrap, 0.0)
            consumer, admin = self._connected()
            ends = consumer.end_offsets(self._places, timeout_ms=_PATIENCE_MS)
            found = admin.list_group_offsets(self._group)
        except (FreshetError, KafkaError, OSError):
            self.close()
            return None
        offsets = found.get(self._group, found)
        committed = {p: max(0, offsets[p].offset) if p in offsets else 0 for p in self._places}
        return Positions(
            {place.partition: ends[place] for place in self._places},
            {place.partition: offset for place, offset in committed.items()},
        )

    def close(self) -> None:
        clients, self._clients = self._clients, None
        for client in clients or ():
            client.close()

    def _connected(self) -> tuple[KafkaConsumer, KafkaAdminClient]:
        if self._clients is None:
            options = {
                "bootstrap_servers": self._bootstrap,
                "bootstrap_timeout_ms": _PATIENCE_MS,
                "request_timeout_ms": _PATIENCE_MS,
                "reconnect_backoff_max_ms": 200,
            }
            self._clients = KafkaConsumer(**options), KafkaAdminClient(**options)
        return self._clients
