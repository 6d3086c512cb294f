"""`freshet bench feeds`: thousands of open feeds in one process, while interests change.

Starts a Kafka, a Milvus and a retrieval process of its own, opens a StreamFeed for each of N_FEEDS
users (shop.py), some of whom do not read for a while, and writes new interests of random users to
Kafka at a steady rate. Told are pushes a second, how long after a record's append its push arrives,
and the memory of an open feed. A reader who does not read must not slow the others down, and gets
the latest state when he reads again.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from kafka import KafkaProducer
from rich.console import Console
from rich.progress import Progress

from infra.bench import Result
from infra.channels import aio_channel
from infra.endpoints import Endpoints
from infra.kafka_topics import Topics
from infra.stack.launcher import Silent, running_stack
from protos.keys import compose_key
from protos.rec.v1.interests_pb2 import Cause, Hop, UserInterests
from protos.rec.v1.recommend_pb2 import FeedQuery, Source, StreamFeedRequest
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from protos.vectors import Floats
from retrieval.bench.raw import open_shop
from retrieval.bench.shop import (
    TENANT,
    Shop,
    make_shop,
    state_of,
    user_id,
)

N_ITEMS, N_FEEDS = 20_000, 2_000
SLOW_SHARE = 0.05
CHANGES_PER_S = 100.0
SECONDS, QUICK_SECONDS = 60.0, 20.0
N_PLACES = 20
FEEDS_PER_CHANNEL = 100
"""HTTP/2 servers commonly allow a hundred calls of one connection."""

console = Console(stderr=True)


@dataclass(slots=True)
class Watcher:
    """One open feed."""

    user: int
    is_slow: bool
    pushes: list[tuple[int, float]] = field(default_factory=list)
    """Of his own feed: (offset that it includes, seconds since the epoch when it came)"""
    n_stopgaps: int = 0
    """Pushes of something else, as his own feed was not there yet."""


def feeds(quick: bool) -> Result:
    """Measure; there is no bar."""
    shop = make_shop(N_ITEMS, N_FEEDS)
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as folder:
        parts = frozenset({"kafka", "milvus", "retrieval"})
        with running_stack(Path(folder), parts, Silent()) as endpoints:
            open_shop(shop, endpoints, console)
            figures = asyncio.run(_measure(shop, endpoints, QUICK_SECONDS if quick else SECONDS))
    return Result(figures)


async def _measure(shop: Shop, endpoints: Endpoints, seconds: float) -> dict[str, Any]:
    watchers = [Watcher(user, user < SLOW_SHARE * N_FEEDS) for user in range(N_FEEDS)]
    before_mib = _memory_mib()
    go_on = asyncio.Event()
    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []
        begin = time.perf_counter()
        for first in range(0, N_FEEDS, FEEDS_PER_CHANNEL):
            channel = await stack.enter_async_context(aio_channel(endpoints.retrieval, _OWN))
            stub = RecommendServiceStub(channel)
            for watcher in watchers[first : first + FEEDS_PER_CHANNEL]:
                tasks.append(asyncio.create_task(_watch(stub, watcher, go_on)))
        with console.status(f"opening {N_FEEDS:,} feeds"):
            while not all(watcher.pushes or watcher.is_slow for watcher in watchers):
                await asyncio.sleep(0.1)
                for task in tasks:
                    if task.done():
                        task.result()
        opened_s = time.perf_counter() - begin
        open_mib = _memory_mib()
        changed = await asyncio.to_thread(
            _change, shop, endpoints.kafka_bootstrap, Topics(), seconds
        )
        await asyncio.sleep(3)
        after_mib = _memory_mib()
        go_on.set()
        await asyncio.sleep(3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    delays = [
        1000 * delay
        for watcher in watchers
        if not watcher.is_slow
        for delay in _delays(watcher, changed)
    ]
    slow = [watcher for watcher in watchers if watcher.is_slow]
    return {
        "n_feeds": N_FEEDS,
        "n_slow": len(slow),
        "slow_with_latest": sum(_has_latest(watcher, changed) for watcher in slow),
        "opened_per_s": round(N_FEEDS / opened_s),
        "stopgaps": sum(watcher.n_stopgaps for watcher in watchers),
        "changes_per_s": CHANGES_PER_S,
        "pushes_per_s": round(len(delays) / seconds, 1),
        "p50_ms": round(float(np.quantile(delays, 0.5)), 1),
        "p99_ms": round(float(np.quantile(delays, 0.99)), 1),
        "kib_per_feed": round(1024 * (open_mib - before_mib) / N_FEEDS, 1),
        "mib_open": open_mib,
        "mib_after": after_mib,
    }


_OWN = (("grpc.use_local_subchannel_pool", 1),)
"""Channels to one address share a connection otherwise."""


async def _watch(stub: RecommendServiceStub, watcher: Watcher, go_on: asyncio.Event) -> None:
    query = FeedQuery(user_id=user_id(watcher.user), n=N_PLACES)
    call = stub.StreamFeed(StreamFeedRequest(query=query))
    if watcher.is_slow:
        await go_on.wait()
    async for push in call:
        if push.HasField("feed") and push.feed.source == Source.SOURCE_REFINED:
            watcher.pushes.append((push.feed.encoded_offset, time.time()))
        watcher.n_stopgaps += push.feed.source == Source.SOURCE_TRENDING


def _change(
    shop: Shop, bootstrap: str, topics: Topics, seconds: float
) -> dict[int, list[tuple[int, float]]]:
    """Write new interests of random users at a steady rate; return by user what was written:
    (offset, seconds since the epoch)."""
    rng = np.random.default_rng(1)
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)
    written: dict[int, list[tuple[int, float]]] = {}
    offset, begin = 1_000_000, time.monotonic()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("changing interests", total=seconds)
        while (now := time.monotonic() - begin) < seconds:
            due = int(now * CHANGES_PER_S) - (offset - 1_000_000)
            for _ in range(due):
                user, offset = int(rng.integers(N_FEEDS)), offset + 1
                state = _changed(shop, user, offset, rng)
                key = compose_key(TENANT, state.user_id)
                producer.send(
                    topics.interests,
                    key=key,
                    value=state.SerializeToString(),
                    partition=state.partition,
                )
                written.setdefault(user, []).append((offset, time.time()))
            progress.update(task, completed=now)
            time.sleep(0.005)
    producer.flush(timeout=30)
    producer.close()
    return written


def _changed(shop: Shop, user: int, offset: int, rng: np.random.Generator) -> UserInterests:
    noise = rng.standard_normal(shop.users[user].shape).astype(np.float32) / 16
    vectors: Floats = shop.users[user] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    state = state_of(shop, user)
    state.interests.vectors = vectors.astype("<f4").tobytes()
    state.applied_offset = state.encoded_offset = offset
    now_ms = time.time_ns() // 1_000_000
    state.cause.CopyFrom(Cause(event_id=str(offset), offset=offset, accepted_ms=now_ms))
    state.hops.append(Hop(name="published", at_us=now_ms * 1000))
    return state


def _delays(watcher: Watcher, changed: dict[int, list[tuple[int, float]]]) -> Sequence[float]:
    """Return for each push of a change the seconds since it was written."""
    written = dict(changed.get(watcher.user, ()))
    return [at - written[offset] for offset, at in watcher.pushes if offset in written]


def _has_latest(watcher: Watcher, changed: dict[int, list[tuple[int, float]]]) -> bool:
    """Return whether the last that a reader got is the newest there is."""
    newest = max((offset for offset, _ in changed.get(watcher.user, ())), default=None)
    if newest is None:
        return bool(watcher.pushes)
    return bool(watcher.pushes) and watcher.pushes[-1][0] == newest


def _memory_mib() -> float:
    """Return the resident memory of the retrieval process."""
    for process in psutil.Process().children(recursive=True):
        if "retrieval.server" in " ".join(process.cmdline()):
            return float(process.memory_info().rss) / 2**20
    return 0.0
