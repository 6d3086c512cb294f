from collections import namedtuple

import pytest

from infra import kafka_log
from infra.kafka_log import KafkaLog
from protos.errors import DependencyDown, NotReady
from tests.infra.fake_consumer import FakeConsumer

Record = namedtuple("Record", "partition offset")
TOPIC = "rec.events"


def log(*partitions):
    """A topic from the offsets that each partition still holds."""
    records = {n: [Record(n, one) for one in held] for n, held in enumerate(partitions)}
    return KafkaLog(FakeConsumer(TOPIC, records), TOPIC)


def test_all_that_is_there_is_read_each_partition_in_its_order():
    read = list(log([0, 1, 2], [], [5, 9]).read())

    assert [one.offset for one in read if one.partition == 0] == [0, 1, 2]
    assert [one.offset for one in read if one.partition == 2] == [5, 9]
    assert len(read) == 5


def test_a_reading_ends_before_the_offsets_it_was_given():
    read = list(log(range(10), range(10)).read({0: 3}, {0: 6}))

    assert read == [Record(0, 3), Record(0, 4), Record(0, 5)]


def test_bounds_leave_out_empty_partitions():
    assert log([4, 5], []).bounds() == ({0: 4}, {0: 6})


def test_a_silent_broker_ends_the_reading(monkeypatch):
    monkeypatch.setattr(kafka_log, "SILENCE_S", 0.05)
    silent = log(range(3))
    silent._consumer.poll = lambda timeout_ms: {}

    with pytest.raises(DependencyDown, match="was not read on"):
        list(silent.read())


def test_a_missing_topic_is_for_the_operator():
    with pytest.raises(NotReady, match="freshet up"):
        KafkaLog(FakeConsumer("another", {0: []}), TOPIC)
