import asyncio
import inspect

import pytest

from infra.kafka_topics import user_partition
from protos.errors import DependencyDown, InvalidInput, Overloaded
from stream.aio_producer import AsyncProducer
from stream.kafka_writer import WriterOptions
from stream.producer import Producer, make_event
from tests.stream.aio_world import StrictWriter, item_ids, publish, rest
from tests.stream.fake_writer import N_PARTITIONS, FakeWriter

pytestmark = pytest.mark.timeout(60)  # a wake-up that never comes
CLICK = {"item_id": "50", "action": "click"}


@pytest.fixture
def writer():
    return FakeWriter()


@pytest.fixture
async def producer(writer):
    async with AsyncProducer(writer) as producer:
        yield producer


@pytest.fixture
def full():
    """A writer with room for one record, confirmed when the test says."""
    return StrictWriter(is_silent=True, room=1)


@pytest.fixture
async def crowded(full):
    """A producer whose buffer is full: the event "first" is on its way."""
    async with AsyncProducer(full) as producer:
        first = asyncio.create_task(producer.publish("user", item_id="first", action="view"))
        await rest()
        yield producer
        full.room = None
        full.is_silent = False
        full.confirm_all()
        await first


@pytest.mark.parametrize("name", ["__init__", "publish", "publish_batch", "erase", "flush"])
def test_calls_look_like_those_of_the_sync_producer(name):
    ours, theirs = getattr(AsyncProducer, name), getattr(Producer, name)

    assert inspect.signature(ours) == inspect.signature(theirs)


async def test_a_receipt_says_where_the_record_stands(producer):
    first = await producer.publish("user", **CLICK, tenant="shop")
    second = await producer.publish("user", **CLICK, tenant="shop")

    assert (first.tenant, first.user_id) == ("shop", "user")
    assert first.partition == user_partition("shop", "user", N_PARTITIONS)
    assert (first.offset, second.offset) == (0, 1)


async def test_a_batch_is_one_record_and_an_erasure_is_another(producer, writer):
    await producer.publish_batch("user", [make_event(item_id=n, action="view") for n in "123"])
    await producer.erase("user", reason="asked")

    assert [len(one.batch.events) for one in writer.log] == [3, 0]
    assert writer.log[1].batch.erase.reason == "asked"


async def test_bad_input_is_refused_as_by_the_sync_producer(producer, writer):
    events = [make_event(item_id="1", action="view"), make_event(item_id="2", action="peek")]

    with pytest.raises(InvalidInput, match="did you mean 'click'"):
        await producer.publish("user", item_id="50", action="clik")
    with pytest.raises(InvalidInput, match="event 1: action 'peek'"):
        await producer.publish_batch("user", events)
    with pytest.raises(InvalidInput):
        await producer.erase("")

    assert writer.log == []


async def test_tasks_started_in_order_publish_in_order(producer, writer):
    tasks = [publish(producer, f"user{n % 3}", str(n)) for n in range(300)]
    await asyncio.gather(*tasks)

    for place in range(3):
        assert item_ids(writer, f"user{place}") == [str(n) for n in range(place, 300, 3)]


async def test_a_full_buffer_keeps_order_and_every_event():
    writer = StrictWriter(is_silent=True, room=2)
    async with AsyncProducer(writer) as producer:
        tasks = [publish(producer, f"user{n % 3}", str(n)) for n in range(60)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            assert writer.bytes_in_flight <= 2
            writer.confirm_all()

    for place in range(3):
        assert item_ids(writer, f"user{place}") == [str(n) for n in range(place, 60, 3)]


async def test_a_full_buffer_suspends_only_the_task_that_waits(crowded, full):
    waiting = publish(crowded, "user", "second")
    await rest()  # which could not go on if the loop were held up

    assert not waiting.done()
    assert item_ids(full) == ["first"]

    full.confirm_all()
    full.is_silent = False
    await waiting

    assert item_ids(full) == ["first", "second"]
    assert {one.wait_s for one in full.log} == {0}  # the writer was never asked to wait


async def test_room_that_another_producer_frees_is_noticed():
    full = FakeWriter(is_silent=True, room=1)
    Producer(full).publish_nowait("user", item_id="first", action="view")
    async with AsyncProducer(full) as producer:
        waiting = publish(producer, "user", "second")
        await rest()
        assert not waiting.done()

        full.confirm_all()
        full.is_silent = False

        assert (await waiting).offset == 1


async def test_waiting_for_room_ends_at_the_deadline_in_the_line_too(crowded, full):
    waiting = [publish(crowded, "user", str(n), timeout_s=0.1) for n in range(3)]

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(one) for one in outcomes] == [Overloaded] * 3
    assert all(one.retry_after_s > 0 for one in outcomes)
    assert item_ids(full) == ["first"]


async def test_cancelled_while_it_waits_for_room_an_event_is_not_sent(crowded, full):
    tasks = [publish(crowded, "user", str(n)) for n in range(4)]
    await rest()

    tasks[0].cancel()  # the one whose turn it is
    tasks[2].cancel()  # one further back in the line
    await rest()
    full.is_silent, full.room = False, None
    full.confirm_all()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert [task.cancelled() for task in tasks] == [True, False, True, False]
    assert item_ids(full) == ["first", "1", "3"]


async def test_cancelled_on_its_way_an_event_arrives_once_and_its_room_is_freed(full):
    async with AsyncProducer(full) as producer:
        cancelled = publish(producer, "user", "first")
        await rest()
        cancelled.cancel()
        waiting = publish(producer, "user", "second")
        await rest()
        assert cancelled.cancelled()
        assert item_ids(full) == ["first"]

        full.confirm_all()
        full.is_silent = False

        assert (await waiting).offset == 1  # the cancelled one stands before it
    assert item_ids(full) == ["first", "second"]


async def test_a_failed_record_is_repeated_as_it_was(producer, writer):
    writer.failures.append(DependencyDown("a broker fell"))

    receipt = await producer.publish("user", **CLICK)

    first, second = writer.log
    assert first.value == second.value  # the same event_id: the stream applies it once
    assert receipt.offset == 0


async def test_cancelling_ends_the_repeats(producer, writer):
    writer.failures.extend(DependencyDown("a broker fell") for _ in range(100))
    task = publish(producer, "user", "50")
    await rest()

    task.cancel()
    await asyncio.wait([task])
    n_sent = len(writer.log)
    await asyncio.sleep(0.3)  # a repeat comes within 0.25 s

    assert len(writer.log) == n_sent


async def test_a_failure_of_kafka_arrives_as_it_is(producer, writer):
    writer.failures.extend(DependencyDown("a broker fell") for _ in range(100))

    with pytest.raises(DependencyDown, match="a broker fell"):
        await producer.publish("user", **CLICK, timeout_s=0.3)


async def test_silence_of_kafka_ends_at_the_deadline():
    async with AsyncProducer(FakeWriter(is_silent=True)) as producer:
        with pytest.raises(DependencyDown, match=r"within 0.1 s.*event_id"):
            await producer.publish("user", **CLICK, timeout_s=0.1)


async def test_a_producer_that_is_not_open_says_so(writer):
    producer = AsyncProducer(writer)
    with pytest.raises(DependencyDown, match="not open"):
        await producer.publish("user", **CLICK)

    async with producer:
        pass

    for call in (producer.publish("user", **CLICK), producer.erase("user"), producer.flush()):
        with pytest.raises(DependencyDown, match="not open"):
            await call
    await producer.close()  # once more does no harm
    assert writer.log == []
    assert not writer.is_closed  # it was lent


async def test_closing_refuses_at_once_what_waits_for_room(full):
    async with AsyncProducer(full, options=WriterOptions(timeout_s=3600)) as producer:
        publish(producer, "user", "first")
        waiting = [publish(producer, "user", str(n)) for n in range(3)]
        await rest()

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(one) for one in outcomes] == [DependencyDown] * 3
    full.confirm_all()
    assert item_ids(full) == ["first"]


async def test_kafka_that_is_not_there_is_said_so():
    with pytest.raises(DependencyDown, match=r"127\.0\.0\.1:1 does not answer"):
        async with AsyncProducer("127.0.0.1:1", options=WriterOptions(timeout_s=0.2)):
            pass
