import threading
import time
import uuid

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from infra.kafka_follower import Follower
from infra.kafka_topics import Topics, ensure_topics, key_partition, partition_count
from protos.errors import DependencyDown, VersionMismatch


@pytest.fixture
def topics() -> Topics:
    return Topics(f"t{uuid.uuid4().hex[:8]}")


class Collected:
    """Keeps what a follower hands over."""

    def __init__(self) -> None:
        self.records, self.failures = [], []
        self._more = threading.Condition()

    def handle(self, records):
        with self._more:
            self.records += records
            self._more.notify_all()

    def wait(self, n, timeout_s=20):
        with self._more:
            assert self._more.wait_for(lambda: len(self.records) >= n, timeout_s)


def test_topics_are_made_once_with_log_append_time(kafka_bootstrap, topics):
    ensure_topics(kafka_bootstrap, topics, n_partitions=3)
    ensure_topics(kafka_bootstrap, topics, n_partitions=3)

    assert {partition_count(kafka_bootstrap, name) for name in topics.all()} == {3}
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    sent = producer.send(topics.events, b"x", timestamp_ms=1).get(timeout=10)
    producer.close()
    assert abs(sent.timestamp - time.time() * 1000) < 60_000


def test_another_partition_count_is_refused_with_what_to_do(kafka_bootstrap, topics):
    ensure_topics(kafka_bootstrap, topics, n_partitions=3)

    with pytest.raises(VersionMismatch, match=r"has 3 partitions.*set it to 3.*replay"):
        ensure_topics(kafka_bootstrap, topics, n_partitions=4)


def test_kafka_that_is_not_there_is_said_so(monkeypatch):
    monkeypatch.setattr("infra.kafka_topics.CONNECT_S", 0.3)

    with pytest.raises(DependencyDown, match=r"127\.0\.0\.1:1 does not answer"):
        ensure_topics("127.0.0.1:1", Topics("x"), n_partitions=1)


def test_a_key_stands_on_the_partition_that_kafka_gives_it(kafka_bootstrap, topics):
    ensure_topics(kafka_bootstrap, topics, n_partitions=3)
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    keys = [f"default/user-{number}".encode() for number in range(20)]

    placed = [producer.send(topics.events, b"", key=key).get(10).partition for key in keys]

    producer.close()
    assert placed == [key_partition(key, 3) for key in keys]


def test_a_follower_reads_everything_then_what_comes(kafka_bootstrap, topics):
    ensure_topics(kafka_bootstrap, topics, n_partitions=2)
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    for number in range(10):
        producer.send(topics.interests, b"v", key=str(number).encode()).get(10)
    seen = Collected()
    follower = Follower(
        kafka_bootstrap, topics.interests, seen.handle, on_failure=seen.failures.append
    )

    follower.start()
    assert follower.caught_up.wait(20)
    assert len(seen.records) == 10
    producer.send(topics.interests, None, key=b"3").get(10)
    seen.wait(11)

    follower.stop()
    producer.close()
    assert (seen.records[-1].key, seen.records[-1].value) == (b"3", None)
    assert not seen.failures


def test_a_follower_goes_on_where_it_is_told(kafka_bootstrap, topics):
    ensure_topics(kafka_bootstrap, topics, n_partitions=1)
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    for number in range(5):
        producer.send(topics.seen, str(number).encode(), key=b"k").get(10)
    producer.close()
    seen = Collected()
    follower = Follower(
        kafka_bootstrap, topics.seen, seen.handle, on_failure=seen.failures.append, start_at={0: 3}
    )

    follower.start()
    seen.wait(2)

    follower.stop()
    assert [record.value for record in seen.records] == [b"3", b"4"]


def test_a_handler_that_fails_is_reported_not_swallowed(kafka_bootstrap, topics):
    ensure_topics(kafka_bootstrap, topics, n_partitions=1)
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    producer.send(topics.seen, b"1", key=b"k").get(10)
    producer.close()
    failed = threading.Event()

    def explode(records):
        raise ValueError("poison")

    follower = Follower(
        kafka_bootstrap, topics.seen, explode, on_failure=lambda error: failed.set()
    )
    follower.start()

    assert failed.wait(20)
    follower.stop()


def test_topics_of_two_prefixes_do_not_meet(kafka_bootstrap, topics):
    other = Topics(f"u{uuid.uuid4().hex[:8]}")
    ensure_topics(kafka_bootstrap, topics, n_partitions=1)
    ensure_topics(kafka_bootstrap, other, n_partitions=2)

    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    names = set(admin.list_topics())
    admin.close()
    assert set(topics.all()) | set(other.all()) <= names
