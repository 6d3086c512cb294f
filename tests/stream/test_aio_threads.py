"""stream/aio_producer.py, where Kafka's client blocks: on a thread, and never the event loop."""

import asyncio
import queue

import pytest

from protos.errors import DependencyDown
from stream.aio_producer import AsyncProducer
from tests.stream.aio_world import PatientWriter, item_ids, publish

pytestmark = pytest.mark.timeout(60)  # a wake-up that never comes


async def test_flush_waits_on_a_thread_until_all_has_arrived():
    writer = PatientWriter()
    async with AsyncProducer(writer) as producer:
        published = publish(producer, "user", "50")
        flushed = asyncio.create_task(producer.flush())

        await writer.has_begun("flush")
        assert not published.done()
        writer.go.set()

        await flushed
        assert (await published).offset == 0


async def test_the_topic_is_looked_up_once_on_a_thread_and_order_is_kept():
    writer = PatientWriter()
    writer.is_known, writer.is_silent = False, False
    async with AsyncProducer(writer) as producer:
        tasks = [publish(producer, "user", str(n)) for n in range(5)]

        await writer.has_begun("warm")
        assert writer.log == []
        tasks += [publish(producer, "user", str(n)) for n in range(5, 10)]
        writer.go.set()
        await asyncio.gather(*tasks)

    assert writer.calls == ["warm"]
    assert item_ids(writer) == [str(n) for n in range(10)]


async def test_a_topic_that_nobody_names_is_said_so_at_the_deadline():
    writer = PatientWriter()
    writer.is_known = False
    async with AsyncProducer(writer) as producer:
        outcomes = []
        for _ in range(2):  # those that come later ask no second time
            tasks = [publish(producer, "user", str(n), timeout_s=0.1) for n in range(3)]
            outcomes += await asyncio.gather(*tasks, return_exceptions=True)
        writer.go.set()

    assert [type(one) for one in outcomes] == [DependencyDown] * 6
    assert all("rec.events; is it up" in str(one) for one in outcomes)
    assert writer.calls == ["warm"]  # however many wait, one thread asks


class ConnectingWriter(PatientWriter):
    """In the place of KafkaWriter, whose making waits for a broker."""

    made: queue.Queue

    def __init__(self, *args):
        super().__init__()
        self.made.put(self)
        self.block("connect")


@pytest.fixture
def connecting(monkeypatch):
    monkeypatch.setattr("stream.delivery.KafkaWriter", ConnectingWriter)
    monkeypatch.setattr(ConnectingWriter, "made", queue.Queue(), raising=False)


async def made():
    """Return the writer that is being connected."""
    return await asyncio.to_thread(ConnectingWriter.made.get, timeout=20)


async def test_connecting_and_closing_wait_on_a_thread(connecting):
    producer = AsyncProducer("kafka:9092")
    entered = asyncio.create_task(producer.__aenter__())
    writer = await made()
    writer.go.set()
    await entered

    writer.go.clear()
    closed = asyncio.create_task(producer.close())
    await writer.has_begun("close")
    assert not closed.done()
    writer.go.set()
    await closed

    assert writer.calls == ["connect", "close"]


async def test_cancelled_while_it_connects_a_producer_closes_what_it_opened(connecting):
    entered = asyncio.create_task(AsyncProducer("kafka:9092").__aenter__())
    writer = await made()

    entered.cancel()
    await asyncio.wait([entered])
    writer.go.set()

    assert entered.cancelled()
    await writer.has_begun("close")


async def test_a_cancelled_close_closes_all_the_same(connecting):
    producer = AsyncProducer("kafka:9092")
    entered = asyncio.create_task(producer.__aenter__())
    writer = await made()
    writer.go.set()
    await entered
    writer.go.clear()

    closed = asyncio.create_task(producer.close())
    await writer.has_begun("close")
    closed.cancel()
    await asyncio.wait([closed])
    writer.go.set()

    assert closed.cancelled()
    await asyncio.to_thread(writer.closed.wait, 20)
    assert writer.is_closed
