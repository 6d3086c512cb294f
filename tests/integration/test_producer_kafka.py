import time
import uuid

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infra.kafka_log import open_log
from infra.kafka_topics import Topics, ensure_topics, user_partition
from protos.errors import DependencyDown, InvalidInput
from protos.rec.v1.events_pb2 import Event, EventBatch
from protos.rec.v1.items_pb2 import Item
from stream.dead_letters import DeadLetterReader
from stream.item_publisher import ItemPublisher
from stream.kafka_writer import KafkaWriter, WriterOptions
from stream.producer import Producer, make_event
from tests.integration.listener import listener

pytestmark = pytest.mark.integration
N_PARTITIONS = 3


@pytest.fixture
def topics(kafka_bootstrap):
    topics = Topics(f"t{uuid.uuid4().hex[:8]}")
    ensure_topics(kafka_bootstrap, topics, n_partitions=N_PARTITIONS)
    return topics


@pytest.fixture
def producer(kafka_bootstrap, topics):
    with Producer(kafka_bootstrap, topic_prefix=topics.prefix) as producer:
        yield producer


def read_all(bootstrap, topic):
    """Return every record of a topic, each partition in its order."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    records = []
    while any(consumer.position(one) < end for one, end in ends.items()):
        for polled in consumer.poll(timeout_ms=500).values():
            records += polled
    consumer.close()
    return records


def test_a_receipt_is_the_place_of_the_record(kafka_bootstrap, topics, producer):
    receipts = {
        user_id: producer.publish(user_id, item_id="50", action="click", tenant="shop")
        for user_id in ("ann", "b/ob", "zoë")
    }

    records = {(one.partition, one.offset): one for one in read_all(kafka_bootstrap, topics.events)}
    for user_id, receipt in receipts.items():
        batch = EventBatch.FromString(records[receipt.partition, receipt.offset].value)
        assert (batch.tenant, batch.user_id) == ("shop", user_id)
        assert receipt.partition == user_partition("shop", user_id, N_PARTITIONS)
    assert len(records) == 3


def test_many_events_keep_their_order_and_none_is_lost(kafka_bootstrap, topics, producer):
    n_events, n_users = 5_000, 7
    for number in range(n_events):
        producer.publish_nowait(f"user{number % n_users}", item_id=str(number), action="view")
    producer.flush()

    by_user = {}
    for record in read_all(kafka_bootstrap, topics.events):
        batch = EventBatch.FromString(record.value)
        numbers = [int(event.item_id) for event in batch.events]
        by_user.setdefault(batch.user_id, []).extend(numbers)

    for place, user_id in enumerate(f"user{n}" for n in range(n_users)):
        assert by_user[user_id] == list(range(place, n_events, n_users))


def test_delivery_reports_are_the_places_of_the_records(kafka_bootstrap, topics, producer):
    reports = [
        producer.publish_nowait("user", item_id=str(number), action="view") for number in range(100)
    ]

    offsets = [report.result(timeout=10).offset for report in reports]

    records = {one.offset: one for one in read_all(kafka_bootstrap, topics.events)}
    items = [EventBatch.FromString(records[offset].value).events[0].item_id for offset in offsets]
    assert items == [str(number) for number in range(100)]


def test_a_bad_event_among_good_ones_leaves_the_log_as_it_was(kafka_bootstrap, topics, producer):
    events = [make_event(item_id="1", action="view"), Event(item_id="2", action="peek")]

    with pytest.raises(InvalidInput, match="event 1"):
        producer.publish_batch("user", events)

    assert read_all(kafka_bootstrap, topics.events) == []


def test_a_tiny_buffer_slows_down_and_loses_nothing(kafka_bootstrap, topics):
    options = WriterOptions(buffer_bytes=8 * 1024)
    with Producer(kafka_bootstrap, topic_prefix=topics.prefix, options=options) as producer:
        reports = [
            producer.publish_nowait("user", item_id=str(number), action="view")
            for number in range(500)
        ]
        offsets = [report.result(timeout=10).offset for report in reports]

    assert offsets == list(range(500))


def test_items_and_their_deletion_are_keyed_alike(kafka_bootstrap, topics):
    with ItemPublisher(kafka_bootstrap, topic_prefix=topics.prefix) as items:
        items.upsert([Item(item_id="50", title="Star Wars"), Item(item_id="51", title="Alien")])
        items.delete(["50"])

    records = read_all(kafka_bootstrap, topics.items)
    newest = {record.key: record.value for record in records}
    assert newest[b"default/50"] is None
    assert Item.FromString(newest[b"default/51"]).title == "Alien"


def test_a_missing_topic_is_said_so_within_the_deadline(kafka_bootstrap):
    options = WriterOptions(timeout_s=1)
    with (
        Producer(kafka_bootstrap, topic_prefix="nowhere", options=options) as producer,
        pytest.raises(DependencyDown, match=r"nowhere\.events.*the topic is missing"),
    ):
        producer.publish("user", item_id="50", action="click", timeout_s=1)


def test_a_record_that_kafka_refuses_as_too_large_is_the_callers_to_change(kafka_bootstrap, topics):
    writer = KafkaWriter(kafka_bootstrap)
    with pytest.raises(InvalidInput, match="larger than Kafka takes"):
        writer.submit(topics.events, b"k", b"x" * 2_000_000, lambda outcome: None, wait_s=1)

    assert writer.bytes_in_flight == 0
    writer.close()


def test_dead_letters_are_read_newest_first_and_one_by_one(kafka_bootstrap, topics):
    kafka = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    for number in range(5):
        headers = [("reason", b"garbage"), ("source_offset", str(number).encode())]
        kafka.send(
            topics.dead_letters, b"\xff", key=b"k", headers=headers, partition=number % 2
        ).get(10)
        time.sleep(0.005)  # within a millisecond, partitions have no order
    kafka.close()

    with open_log(kafka_bootstrap, topics.dead_letters) as log:
        reader = DeadLetterReader(log)
        newest = reader.newest(3)
        one = reader.one(1, 1)

    assert [letter.header("source_offset") for letter in newest] == ["4", "3", "2"]
    assert one.header("source_offset") == "3"


@pytest.fixture
def broker(kafka_bootstrap):
    """The broker's process, running again when the test ends."""
    broker = listener(kafka_bootstrap)
    if broker is None:
        pytest.skip("the broker is on another machine")
    yield broker
    broker.resume()


@pytest.mark.slow
def test_a_producer_outlives_an_outage_longer_than_its_patience(kafka_bootstrap, topics, broker):
    options = WriterOptions(timeout_s=1)
    with Producer(kafka_bootstrap, topic_prefix=topics.prefix, options=options) as producer:
        producer.publish("user", item_id="first", action="view", timeout_s=20)

        broker.suspend()
        with pytest.raises(DependencyDown, match="did not confirm within 1 s"):
            producer.publish("user", item_id="0", action="view")
        reports = [
            producer.publish_nowait("user", item_id=str(number), action="view")
            for number in range(1, 10)
        ]
        time.sleep(3)  # several request timeouts: what has been sent is being repeated
        broker.resume()

        offsets = [report.result(timeout=20).offset for report in reports]
        assert offsets == list(range(2, 11))
        after = producer.publish("user", item_id="after", action="view", timeout_s=20)
        assert after.offset == 11


@pytest.mark.slow
def test_closing_during_an_outage_fails_what_is_left(kafka_bootstrap, topics, broker):
    options = WriterOptions(timeout_s=1)
    producer = Producer(kafka_bootstrap, topic_prefix=topics.prefix, options=options)
    producer.publish("user", item_id="first", action="view", timeout_s=20)

    broker.suspend()
    report = producer.publish_nowait("user", item_id="1", action="view")
    with pytest.raises(DependencyDown):
        producer.close()

    assert isinstance(report.exception(timeout=5), DependencyDown)
