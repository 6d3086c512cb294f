"""Topics of one's own on a real Kafka, workers on them, and what one wants to know of both."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from infra.kafka_log import open_log
from infra.kafka_topics import Topics, ensure_topics
from protos.keys import compose_key
from protos.rec.v1.events_pb2 import Event, EventBatch
from protos.rec.v1.interests_pb2 import UserInterests
from stream.bench.histories import History, UserKey, decode_histories
from stream.bench.worker_process import WAIT_S, WorkerProcess, wait_for
from stream.kafka_clients import app_id

N_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class OracleRecord:
    """A record of rec.events as the oracle wants it."""

    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    n_partitions: int = N_PARTITIONS


class StreamWorld:
    """Topics under a prefix of their own; workers by name."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap, self.folder = bootstrap, folder
        self.prefix = f"t{uuid.uuid4().hex[:10]}"
        self.topics = Topics(self.prefix)
        ensure_topics(bootstrap, self.topics, n_partitions=N_PARTITIONS)
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
        self.workers: list[WorkerProcess] = []

    def worker(
        self, encoder_address: str, name: str = "worker-0", **settings: object
    ) -> WorkerProcess:
        """Return a worker that is not started yet.

        Args:
            settings: of StreamSettings, by name.
        """
        environment = {
            "FRESHET_KAFKA_BOOTSTRAP": self.bootstrap,
            "FRESHET_TOPIC_PREFIX": self.prefix,
            "FRESHET_N_PARTITIONS": str(N_PARTITIONS),
            "FRESHET_ENCODER": encoder_address,
        }
        environment |= {f"FRESHET_STREAM_{k.upper()}": str(value) for k, value in settings.items()}
        worker = WorkerProcess(name, self.folder, environment)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.producer.close()

    def publish(
        self,
        user_id: str,
        events: Sequence[Event],
        *,
        tenant: str = "",
        partition: int | None = None,
        **fields: Any,
    ) -> Any:
        """Write one record; return the future of its metadata."""
        batch = EventBatch(tenant=tenant, user_id=user_id, events=events, **fields)
        key = compose_key(tenant or "default", user_id)
        return self.producer.send(
            self.topics.events, key=key, value=batch.SerializeToString(), partition=partition
        )

    def read(self, topic: str) -> list[Any]:
        """Return all records of a topic, each partition in its order."""
        with open_log(self.bootstrap, topic) as log:
            return sorted(log.read(), key=lambda record: (record.partition, record.offset))

    def log(self) -> list[OracleRecord]:
        """Return rec.events as the oracle wants it."""
        records = self.read(self.topics.events)
        return [OracleRecord(r.partition, r.offset, r.timestamp, r.value) for r in records]

    def ends(self) -> dict[int, int]:
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            partitions = [TopicPartition(self.topics.events, n) for n in range(N_PARTITIONS)]
            return {p.partition: end for p, end in consumer.end_offsets(partitions).items()}
        finally:
            consumer.close()

    def committed(self) -> dict[int, int]:
        """Return the group's committed offsets of rec.events by partition."""
        group = app_id(self.topics)
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            found = admin.list_group_offsets(group)
            offsets = found.get(group, found)
            return {
                tp.partition: at.offset
                for tp, at in offsets.items()
                if tp.topic == self.topics.events and at.offset >= 0
            }
        finally:
            admin.close()

    def rewind(self) -> None:
        """Set the group's committed offsets back to 0, once its last member has timed out."""
        offsets = {
            TopicPartition(self.topics.events, n): OffsetAndMetadata(0, "", -1)
            for n in range(N_PARTITIONS)
        }
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:

            def is_done() -> bool:
                admin.alter_group_offsets(app_id(self.topics), offsets)
                return sum(self.committed().values()) == 0

            wait_for(is_done, "the group kept its offsets")
        finally:
            admin.close()

    def wait_drained(self, timeout_s: float = WAIT_S) -> None:
        """Wait until everything in rec.events is committed."""
        self.producer.flush()

        def is_drained() -> bool:
            ends, committed = self.ends(), self.committed()
            return all(committed.get(n, 0) >= end for n, end in ends.items())

        wait_for(is_drained, f"{self.prefix}: not drained", timeout_s)

    def wait_interests(
        self, user_id: str, offset: int, *, tenant: str = "default", timeout_s: float = WAIT_S
    ) -> UserInterests:
        """Return the first published state of a user that includes a record."""
        found: list[UserInterests] = []

        def is_there() -> bool:
            for record in self.read(self.topics.interests):
                state = UserInterests.FromString(record.value)
                is_his = (state.tenant, state.user_id) == (tenant, user_id)
                if is_his and state.encoded_offset >= offset:
                    found.append(state)
                    return True
            return False

        wait_for(is_there, f"no interests of {user_id} at {offset}", timeout_s)
        return found[0]

    def states(self) -> dict[UserKey, History]:
        """Return the histories in the changelog topic."""
        newest = {record.key: record.value for record in self.read(self.topics.histories)}
        return decode_histories({k: value for k, value in newest.items() if value is not None})
