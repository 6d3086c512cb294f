"""`freshet bench freshness`: from an event accepted by Kafka to the changed feed in hand.

Starts a stack of its own (real Kafka, real Milvus, every process) in a temporary folder, gives each
of N_USERS a synthetic history of 2,048 events, opens a feed for each, then publishes 50 events a
second (Poisson) through the gateway. Every event counts, not only the newest of a push: its latency
ends with the first push whose feed includes its record, and begins with the broker's own timestamp
of it, read back from the log.
"""

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import numpy as np
import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition
from rich.console import Console
from rich.progress import Progress

from infra import datasets
from infra.bench import Result
from infra.channels import aio_channel
from infra.demo import freshet, start_stack
from infra.endpoints import Endpoints
from infra.hops import hop_durations
from infra.kafka_topics import Topics
from infra.settings import SharedSettings
from infra.witness import FeedWatch, publish, watch_feed
from protos.errors import FreshetError
from protos.rec.v1 import (
    events_pb2,
    events_pb2_grpc,
    items_pb2,
    items_pb2_grpc,
    recommend_pb2,
    recommend_pb2_grpc,
)  # fmt: skip

N_USERS = 25
N_HISTORY = 2048
EVENTS_PER_S = 50.0
DEADLINE_S = 60.0

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Sent:
    """One published event: where it stands in the log."""

    user_id: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Sample:
    latency_ms: float
    is_cause: bool
    """False: it shared a refresh with a newer event."""
    hops: dict[str, float]


def freshness(quick: bool) -> Result:
    """Measure and judge; the bar is p50 < 60 ms and p99 < 250 ms at 50 events a second."""
    with _own_stack() as endpoints:
        sent, samples = asyncio.run(_measure(endpoints, seconds=20.0 if quick else 120.0))
    p50, p99 = (float(np.percentile([s.latency_ms for s in samples], q)) for q in (50, 99))
    causes = [sample.hops for sample in samples if sample.is_cause]
    mean_hops = {name: float(np.mean([hops[name] for hops in causes])) for name in causes[0]}
    total = sum(mean_hops.values())
    return Result(
        figures={
            "p50_ms": round(p50, 1),
            "p99_ms": round(p99, 1),
            "n_events": len(sent),
            "events_per_s": EVENTS_PER_S,
            "n_history": N_HISTORY,
            "n_users": N_USERS,
            "coalesced_share": round(1 - len(causes) / len(samples), 3),
            "hop_ms": {name: round(ms, 2) for name, ms in mean_hops.items()},
            "hop_share": {name: round(ms / total, 3) for name, ms in mean_hops.items()},
        },
        bar={"p50_ms": "< 60", "p99_ms": "< 250"},
        ok=p50 < 60 and p99 < 250,
    )


@contextmanager
def _own_stack() -> Iterator[Endpoints]:
    bundle = SharedSettings().state.resolve() / "bundle"
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as folder:
        before = os.environ.get("FRESHET_STATE")
        os.environ["FRESHET_STATE"] = folder
        try:
            _bring_bundle(bundle, Path(folder) / "bundle")
            start_stack()
            yield Endpoints.load()
        finally:
            freshet("down")
            os.environ.pop("FRESHET_STATE")
            if before is not None:
                os.environ["FRESHET_STATE"] = before


def _bring_bundle(trained: Path, wanted: Path) -> None:
    if trained.exists():
        shutil.copytree(trained, wanted)
        return
    freshet("data", "fetch", "ml-100k")
    freshet("train", "ml-100k", "--quick")


async def _measure(endpoints: Endpoints, seconds: float) -> tuple[list[Sent], list[Sample]]:
    catalogue = datasets.load("ml-100k").items
    item_ids = catalogue["item_id"].to_pylist()
    users = [f"reader-{number}" for number in range(N_USERS)]
    async with aio_channel(endpoints.gateway) as gateway, aio_channel(endpoints.retrieval) as feeds:
        await _publish_items(gateway, catalogue)
        await _backfill(gateway, feeds, users, item_ids)
        async with _watching(feeds, users) as watches:
            sent = await _load(gateway, users, item_ids, seconds)
            for one in sent:
                await watches[one.user_id].including(one.offset, DEADLINE_S)
        accepted = await asyncio.to_thread(_accepted_ms, endpoints.kafka_bootstrap, sent)
        samples = [_sample(watches[one.user_id], one, accepted[one]) for one in sent]
    return sent, samples


async def _publish_items(gateway: grpc.aio.Channel, catalogue: pa.Table) -> None:
    stub = items_pb2_grpc.ItemServiceStub(gateway)
    rows = catalogue.select(["item_id", "title", "text", "categories"]).to_pylist()
    for start in range(0, len(rows), 500):
        items = [items_pb2.Item(**row) for row in rows[start : start + 500]]
        await stub.UpsertItems(items_pb2.UpsertItemsRequest(items=items), timeout=30)


async def _backfill(
    gateway: grpc.aio.Channel, feeds: grpc.aio.Channel, users: list[str], item_ids: list[str]
) -> None:
    """Give each user a history, and wait until a refined, full feed comes of each."""
    events = events_pb2_grpc.EventServiceStub(gateway)
    recommender = recommend_pb2_grpc.RecommendServiceStub(feeds)
    random.seed(1)
    with Progress(console=console) as progress:
        for user_id in progress.track(users, description="histories"):
            receipt = await _history(events, user_id, item_ids)
            query = recommend_pb2.FeedQuery(user_id=user_id, n=20)
            request = recommend_pb2.RecommendRequest(query=query, after=receipt)
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    feed = (await recommender.Recommend(request, timeout=DEADLINE_S)).feed
                    is_refined = feed.source == recommend_pb2.SOURCE_REFINED
                    if is_refined and feed.includes_receipt and len(feed.items) == 20:
                        break
                    await asyncio.sleep(0.2)


async def _history(
    stub: events_pb2_grpc.EventServiceStub, user_id: str, item_ids: list[str]
) -> events_pb2.Receipt:
    now_ms = time.time_ns() // 1_000_000
    receipt = events_pb2.Receipt()
    for start in range(0, N_HISTORY, 512):
        times = (now_ms - (N_HISTORY - number) * 60_000 for number in range(start, start + 512))
        events = [
            events_pb2.Event(item_id=random.choice(item_ids), action="click", event_time_ms=time_ms)
            for time_ms in times
        ]
        request = events_pb2.PublishRequest(user_id=user_id, events=events)
        receipt = (await stub.Publish(request, timeout=30)).receipt
    return receipt


@asynccontextmanager
async def _watching(
    channel: grpc.aio.Channel, users: list[str]
) -> AsyncIterator[dict[str, FeedWatch]]:
    """Keep the feeds of all users open for the length of the block."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(watch_feed(channel, user)) for user in users]
        await asyncio.gather(*(watch.first(DEADLINE_S) for watch in opened))
        yield {watch.user_id: watch for watch in opened}


async def _load(
    gateway: grpc.aio.Channel, users: list[str], item_ids: list[str], seconds: float
) -> list[Sent]:
    """Publish at EVENTS_PER_S, each event on its own schedule: a slow answer delays no other."""
    chosen = random.Random(2)
    tasks: list[asyncio.Task[Sent]] = []
    start = time.monotonic()
    due = 0.0
    with Progress(console=console) as progress:
        bar = progress.add_task(f"{EVENTS_PER_S:.0f} events/s", total=seconds)
        while due < seconds:
            await asyncio.sleep(max(0.0, start + due - time.monotonic()))
            one = _publish_one(gateway, chosen.choice(users), chosen.choice(item_ids))
            tasks.append(asyncio.create_task(one))
            due += chosen.expovariate(EVENTS_PER_S)
            progress.update(bar, completed=due)
    return list(await asyncio.gather(*tasks))


async def _publish_one(gateway: grpc.aio.Channel, user_id: str, item_id: str) -> Sent:
    receipt, _ = await publish(gateway, user_id, item_id, "click", deadline_s=DEADLINE_S)
    return Sent(user_id, receipt.partition, receipt.offset)


def _accepted_ms(bootstrap: str, sent: list[Sent]) -> dict[Sent, int]:
    """Read the broker's timestamps of the records back from the log."""
    topic = Topics(SharedSettings().topic_prefix).events
    wanted = {(one.partition, one.offset): one for one in sent}
    partitions = {one.partition for one in sent}
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    found: dict[Sent, int] = {}
    try:
        consumer.assign([TopicPartition(topic, number) for number in partitions])
        for number in partitions:
            first = min(one.offset for one in sent if one.partition == number)
            consumer.seek(TopicPartition(topic, number), first)
        deadline = time.monotonic() + DEADLINE_S
        while len(found) < len(wanted):
            if time.monotonic() > deadline:
                raise FreshetError(f"{len(wanted) - len(found)} records are not in the log")
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    if (one := wanted.get((record.partition, record.offset))) is not None:
                        found[one] = record.timestamp
    finally:
        consumer.close()
    return found


def _sample(watch: FeedWatch, sent: Sent, accepted_ms: int) -> Sample:
    push = next(p for p in watch.pushes if p.response.feed.encoded_offset >= sent.offset)
    return Sample(
        latency_ms=push.received_us / 1000 - accepted_ms,
        is_cause=push.response.cause.offset == sent.offset,
        hops=hop_durations(push.response.hops, received_us=push.received_us),
    )
