import asyncio
import uuid

import pytest
from kafka import KafkaAdminClient

from infra.kafka_log import open_log
from infra.kafka_topics import Topics, ensure_topics, user_partition
from protos.errors import DependencyDown
from protos.rec.v1.events_pb2 import EventBatch
from stream.aio_producer import AsyncProducer
from stream.kafka_writer import KafkaWriter, WriterOptions

pytestmark = pytest.mark.integration
N_PARTITIONS, N_TASKS, N_USERS, N_EVENTS = 3, 20, 7, 500


@pytest.fixture
def topics(kafka_bootstrap):
    topics = Topics(f"t{uuid.uuid4().hex[:8]}")
    ensure_topics(kafka_bootstrap, topics, n_partitions=N_PARTITIONS)
    return topics


async def test_twenty_tasks_through_a_tiny_buffer_arrive_once_and_in_order(kafka_bootstrap, topics):
    """Nothing leaves a buffer that lingers for a minute, except by flush. Only the event loop
    flushes here: a publish that held it up for room would wait for ever, and end as Overloaded."""
    options = WriterOptions(buffer_bytes=8 * 1024, linger_ms=60_000, timeout_s=20)
    numbers = iter(range(N_EVENTS))
    began = {f"user{n}": [] for n in range(N_USERS)}
    receipts = {}

    async def publish_some():
        for number in numbers:
            user_id = f"user{number % N_USERS}"
            began[user_id].append(number)
            receipt = await producer.publish(user_id, item_id=str(number), action="view")
            receipts[receipt.partition, receipt.offset] = (user_id, number)

    async with AsyncProducer(
        kafka_bootstrap, topic_prefix=topics.prefix, options=options
    ) as producer:
        tasks = [asyncio.create_task(publish_some()) for _ in range(N_TASKS)]
        publishing = asyncio.gather(*tasks)
        while not publishing.done():
            await producer.flush()
            await asyncio.sleep(0.001)
        await publishing

    read = await asyncio.to_thread(read_events, kafka_bootstrap, topics.events)
    assert read == receipts
    assert len(read) == N_EVENTS
    for user_id, expected in began.items():
        partition = user_partition("default", user_id, N_PARTITIONS)
        places = sorted(place for place, (user, _) in read.items() if user == user_id)
        assert [read[place][1] for place in places] == expected
        assert {place[0] for place in places} == {partition}


async def test_a_missing_topic_is_said_so_and_found_once_it_is_there(kafka_bootstrap):
    topics = Topics(f"t{uuid.uuid4().hex[:8]}")
    options = WriterOptions(timeout_s=1)
    async with AsyncProducer(
        kafka_bootstrap, topic_prefix=topics.prefix, options=options
    ) as producer:
        with pytest.raises(DependencyDown, match=r"the topic is missing"):
            await producer.publish("user", item_id="50", action="click")

        await asyncio.to_thread(ensure_topics, kafka_bootstrap, topics, n_partitions=N_PARTITIONS)
        receipt = await producer.publish("user", item_id="50", action="click", timeout_s=20)

    assert receipt.offset == 0


async def test_a_topic_that_goes_and_comes_back_never_holds_up_the_loop(kafka_bootstrap, topics):
    """Only the event loop makes the topic anew: were it held up by the look-up, as the client's
    send would, the publish would end before."""
    options = WriterOptions(timeout_s=60)
    writer = await asyncio.to_thread(KafkaWriter, kafka_bootstrap, options)
    async with AsyncProducer(writer, topic_prefix=topics.prefix) as producer:
        await producer.publish("user", item_id="0", action="view")
        await asyncio.to_thread(delete_topic, kafka_bootstrap, topics.events)
        while writer.knows(topics.events):
            with pytest.raises(DependencyDown):
                await producer.publish("user", item_id="1", action="view", timeout_s=1)

        publishing = asyncio.create_task(
            producer.publish("user", item_id="2", action="view", timeout_s=30)
        )
        await asyncio.sleep(0.1)
        await asyncio.to_thread(ensure_topics, kafka_bootstrap, topics, n_partitions=N_PARTITIONS)
        receipt = await publishing

    await asyncio.to_thread(writer.close)
    read = await asyncio.to_thread(read_events, kafka_bootstrap, topics.events)
    assert read[receipt.partition, receipt.offset] == ("user", 2)


def delete_topic(bootstrap, topic):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_topics([topic])
    admin.close()


def read_events(bootstrap, topic):
    """Return (user_id, number) of every record by its (partition, offset)."""
    with open_log(bootstrap, topic) as log:
        batches = {
            (one.partition, one.offset): EventBatch.FromString(one.value) for one in log.read()
        }
    return {place: (one.user_id, int(one.events[0].item_id)) for place, one in batches.items()}
