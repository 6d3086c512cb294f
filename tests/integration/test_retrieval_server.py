"""The whole process on a real Kafka and a real Milvus: `python -m retrieval.server`."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infra.kafka_topics import Topics, ensure_topics, key_partition, user_partition
from infra.stack.ports import PortReservations
from protos.keys import compose_key
from protos.rec.v1.events_pb2 import Receipt
from protos.rec.v1.interests_pb2 import Cause, Hop, OpenFeed, TrendingItem, TrendingList
from protos.rec.v1.recommend_pb2 import (
    FeedQuery,
    RecommendNextRequest,
    RecommendRequest,
    Source,
    StreamFeedRequest,
)
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from retrieval.milvus.writer import ItemWriter
from tests.retrieval.retrieval_world import N_PARTITIONS, interests, item_vector, state, unit

X, Y = unit(1, 0, 0, 0), unit(0, 1, 0, 0)


class Feeder:
    """Writes what the stream would, under a topic prefix of its own."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap, self.topics = bootstrap, Topics(prefix)
        ensure_topics(bootstrap, self.topics, n_partitions=N_PARTITIONS)
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)

    def item(self, item_id: str, vector, **fields) -> None:
        self._send(
            self.topics.item_vectors,
            compose_key("default", item_id),
            item_vector(item_id, vector, **fields),
        )

    def delete_item(self, item_id: str) -> None:
        self._send(self.topics.item_vectors, compose_key("default", item_id), None)

    def user(self, message) -> None:
        self._send(self.topics.interests, compose_key("default", message.user_id), message)

    def garbage(self) -> None:
        for topic in (self.topics.interests, self.topics.seen, self.topics.item_vectors):
            self._producer.send(topic, key=b"\xff", value=b"\xff\xff", partition=0)

    def trending(self, *item_ids: str) -> None:
        items = [TrendingItem(item_id=i, score=9.0 - at) for at, i in enumerate(item_ids)]
        message = TrendingList(tenant="default", items=items)
        self._send(self.topics.trending, compose_key("default", ""), message)

    def close(self) -> None:
        self._producer.close()

    def _send(self, topic, key, message) -> None:
        value = message.SerializeToString() if message is not None else None
        partition = key_partition(key, N_PARTITIONS)
        self._producer.send(topic, key=key, value=value, partition=partition).get(10)


class Replica:
    """A retrieval.server process."""

    def __init__(self, bootstrap: str, milvus_uri: str, prefix: str, folder, settings) -> None:
        folder.mkdir(exist_ok=True)
        self._log = folder / "retrieval.log"
        with PortReservations(uuid.uuid4().hex) as ports:
            self.address = f"127.0.0.1:{ports.choose('retrieval')}"
        environment = {
            "FRESHET_KAFKA_BOOTSTRAP": bootstrap,
            "FRESHET_MILVUS_URI": milvus_uri,
            "FRESHET_TOPIC_PREFIX": prefix,
            "FRESHET_N_PARTITIONS": str(N_PARTITIONS),
            "FRESHET_STATE": str(folder),
            "FRESHET_RETRIEVAL_LISTEN": self.address,
            "FRESHET_RETRIEVAL_METRICS_PORT": "0",
        }
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "retrieval.server"],
                env=os.environ | environment | settings,
                stdout=log,
                stderr=log,
            )

    async def ready(self, channel, seconds: float = 60) -> None:
        health = health_pb2_grpc.HealthStub(channel)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log()
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.1)
        raise TimeoutError(self.log())

    def log(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        return self._process.wait(30)


@pytest.fixture
def prefix():
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def feeder(kafka_bootstrap, prefix):
    made = Feeder(kafka_bootstrap, prefix)
    yield made
    made.close()


@contextmanager
def replica_on(feeder, milvus_uri, folder, **settings):
    replica = Replica(feeder.bootstrap, milvus_uri, feeder.topics.prefix, folder, settings)
    try:
        yield replica
    finally:
        if replica._process.poll() is None:
            replica.stop(signal.SIGKILL)


@pytest.fixture
def milvus(milvus_uri, prefix):
    yield milvus_uri
    writer = ItemWriter(milvus_uri, prefix)
    for collection in writer.collections():
        writer.drop(collection)
    writer.close()


def fill(feeder):
    for row in range(3):
        feeder.item(f"x{row}", unit(1, 0, 0.1 * row, 0))
        feeder.item(f"y{row}", unit(0, 1, 0, 0.1 * row))
    feeder.trending("x2", "y2")


def caused(offset, vector):
    now_ms = time.time_ns() // 1_000_000
    made = state("u", offset, interests(vector))
    made.cause.CopyFrom(Cause(event_id=f"e{offset}", offset=offset, accepted_ms=now_ms))
    made.hops.append(Hop(name="accepted", at_us=now_ms * 1000))
    return made


async def recommend(stub, within_s=10, **fields):
    after = fields.pop("after", None)
    query = FeedQuery(**{"user_id": "u", "n": 2} | fields)
    answer = await stub.Recommend(RecommendRequest(query=query, after=after), timeout=within_s)
    return answer.feed


def ids(feed):
    return [item.item_id for item in feed.items]


@pytest.mark.slow
async def test_what_the_topics_say_reaches_the_reader(feeder, milvus, tmp_path):
    fill(feeder)
    feeder.garbage()
    feeder.user(caused(1, X))
    with replica_on(feeder, milvus, tmp_path) as replica:
        async with grpc.aio.insecure_channel(replica.address) as channel:
            await replica.ready(channel)
            stub = RecommendServiceStub(channel)

            await _personal_and_trending(stub)
            await _pushed_when_interests_change(stub, feeder)
            await _receipts(stub, feeder)
            await _items_come_and_go(stub, feeder)
            await _too_large(stub)

        assert replica.stop() == 0, replica.log()


async def _personal_and_trending(stub):
    feed = await recommend(stub)
    assert (ids(feed), feed.source) == (["x0", "x1"], Source.SOURCE_REFINED), feed
    stranger = await recommend(stub, user_id="stranger")
    assert (ids(stranger), stranger.source) == (["x2", "y2"], Source.SOURCE_TRENDING)


async def _too_large(stub):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await recommend(stub, exclude_item_ids=["i" * 256] * 17_000)  # 4.4 MB
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await recommend(stub, exclude_item_ids=["i" * 256] * 10_000)  # as many as are allowed


async def _pushed_when_interests_change(stub, feeder):
    call = stub.StreamFeed(StreamFeedRequest(query=FeedQuery(user_id="u", n=2)))
    assert ids((await call.read()).feed) == ["x0", "x1"]
    open_feed = await asyncio.to_thread(newest, feeder, feeder.topics.open_feeds, "u")
    assert OpenFeed.FromString(open_feed).expires_at_ms > time.time() * 1000

    await asyncio.to_thread(feeder.user, caused(2, Y))
    push = await asyncio.wait_for(call.read(), 10)

    assert (ids(push.feed), push.cause.event_id) == (["y0", "y1"], "e2")
    assert [hop.name for hop in push.hops] == ["accepted", "received", "searched", "pushed"]
    assert 0 < push.since_event_ms < 10_000
    call.cancel()


async def _receipts(stub, feeder):
    partition = user_partition("default", "u", N_PARTITIONS)
    beyond = Receipt(user_id="u", partition=partition, offset=1_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await recommend(stub, after=beyond)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ends at 0" in caught.value.details()

    met = await recommend(stub, after=Receipt(user_id="u", partition=partition, offset=2))
    assert met.includes_receipt


async def _items_come_and_go(stub, feeder):
    await asyncio.to_thread(feeder.item, "best", Y)
    await until(lambda: recommend(stub, n=1), ["best"])

    await asyncio.to_thread(feeder.delete_item, "best")
    await until(lambda: recommend(stub, n=1), ["y0"])


async def until(look, wanted, seconds=10):
    end = time.monotonic() + seconds
    for pause_s in itertools.chain([0], itertools.repeat(0.05)):
        await asyncio.sleep(pause_s)
        seen = ids(await look())
        if seen == wanted or time.monotonic() > end:
            break
    assert seen == wanted


def newest(feeder, topic, user_id):
    consumer = KafkaConsumer(bootstrap_servers=feeder.bootstrap, enable_auto_commit=False)
    at = TopicPartition(topic, user_partition("default", user_id, N_PARTITIONS))
    consumer.assign([at])
    consumer.seek_to_beginning(at)
    values, end = [], time.monotonic() + 10
    while not values and time.monotonic() < end:
        for records in consumer.poll(timeout_ms=200).values():
            values += [record.value for record in records]
    consumer.close()
    return values[-1]


@pytest.mark.slow
async def test_a_killed_replica_starts_from_its_disk_and_a_second_one_is_refused(
    feeder, milvus, tmp_path
):
    fill(feeder)
    feeder.user(caused(1, X))
    with replica_on(feeder, milvus, tmp_path) as first:
        async with grpc.aio.insecure_channel(first.address) as channel:
            await first.ready(channel)
        with replica_on(feeder, milvus, tmp_path) as second:
            assert second._process.wait(60) == 1
            assert "FRESHET_STATE" in second.log()
        first.stop(signal.SIGKILL)
    feeder.user(caused(2, Y))

    with replica_on(feeder, milvus, tmp_path) as again:
        async with grpc.aio.insecure_channel(again.address) as channel:
            await again.ready(channel)

            feed = await recommend(RecommendServiceStub(channel))

    assert (ids(feed), feed.encoded_offset) == (["y0", "y1"], 2)


@pytest.mark.slow
async def test_without_milvus_it_starts_and_answers_with_what_is_trending(feeder, tmp_path):
    fill(feeder)
    feeder.user(caused(1, X))
    with replica_on(feeder, "http://127.0.0.1:1", tmp_path) as replica:
        async with grpc.aio.insecure_channel(replica.address) as channel:
            await replica.ready(channel)

            feed = await recommend(RecommendServiceStub(channel), within_s=1)

    assert (ids(feed), feed.source) == (["x2", "y2"], Source.SOURCE_TRENDING)
    assert "Milvus" in feed.degraded_reason


@pytest.mark.slow
async def test_a_milvus_that_lost_everything_is_filled_again(feeder, milvus, prefix, tmp_path):
    fill(feeder)
    feeder.user(caused(1, X))
    with replica_on(feeder, milvus, tmp_path) as replica:
        async with grpc.aio.insecure_channel(replica.address) as channel:
            await replica.ready(channel)
        replica.stop()
    writer = ItemWriter(milvus, prefix)
    for collection in writer.collections():
        writer.drop(collection)
    writer.close()

    with replica_on(feeder, milvus, tmp_path) as again:
        async with grpc.aio.insecure_channel(again.address) as channel:
            await again.ready(channel)
            stub = RecommendServiceStub(channel)

            await until(lambda: recommend(stub), ["x0", "x1"])


ROUND_ROBIN = (
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.max_reconnect_backoff_ms", 500),
)


@pytest.mark.slow
async def test_two_replicas_behind_one_address_agree_and_one_alone_goes_on(
    feeder, milvus, tmp_path
):
    fill(feeder)
    feeder.user(caused(1, X))
    with (
        replica_on(feeder, milvus, tmp_path / "a") as one,
        replica_on(feeder, milvus, tmp_path / "b", FRESHET_RETRIEVAL_INDEX="false") as other,
    ):
        for replica in (one, other):
            async with grpc.aio.insecure_channel(replica.address) as channel:
                await replica.ready(channel)
        both = f"ipv4:{one.address},{other.address}"
        async with grpc.aio.insecure_channel(both, options=ROUND_ROBIN) as channel:
            stub = RecommendServiceStub(channel)
            first = await recommend(stub, n=1)
            pages = [await next_page(stub, first, 1) for _ in range(6)]
            assert {tuple(ids(page)) for page in pages} == {("x1",)}
            assert {page.recommendation_id for page in pages} == {first.recommendation_id}

            feeder.user(caused(2, Y))
            end, answers = time.monotonic() + 20, set()
            while answers != {("y0", "y1")} and time.monotonic() < end:
                answers = {tuple(ids(await recommend(stub))) for _ in range(6)}
            assert answers == {("y0", "y1")}

            other.stop(signal.SIGKILL)
            survived = [await retried(lambda: recommend(stub)) for _ in range(6)]
            assert {tuple(ids(feed)) for feed in survived} == {("y0", "y1")}


async def next_page(stub, feed, n):
    request = RecommendNextRequest(user_id="u", page_token=feed.next_page_token, n=n)
    return (await stub.RecommendNext(request, timeout=5)).feed


async def retried(call):
    """Ask again once: a call that was under way when its server died is its caller's to repeat."""
    try:
        return await call()
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return await call()
