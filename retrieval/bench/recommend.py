"""`freshet bench recommend`: a feed against one raw Milvus search, and the index against the exact
answer; `freshet bench recommend-million` the same over a million items.

Starts a Kafka, a Milvus and a retrieval process of its own; the catalogue and the users are
synthetic (shop.py). Both sides are asked by this process, in turns:

    feed   Recommend by gRPC: n = 20, explain off, five of twenty categories and a price wanted
    raw    AsyncMilvusClient.search: the same interests, filter, limit, ef and consistency

A feed does what the raw search does not: it leaves out what the user has seen, names and scores
each item, merges the interests. It wins by sharing searches and by reading Milvus's answers itself.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.progress import track

from infra.bench import Result
from infra.channels import aio_channel
from infra.endpoints import Endpoints
from infra.kafka_topics import Topics
from infra.stack.launcher import Silent, running_stack
from protos.errors import FreshetError
from protos.rec.v1.recommend_pb2 import Feed, FeedQuery, RecommendRequest, Source
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from protos.vectors import Floats
from retrieval.bench.raw import Built, RawMilvus, open_shop
from retrieval.bench.shop import (
    MODEL,
    TENANT,
    Shop,
    category,
    item_id,
    make_shop,
    user_id,
)
from retrieval.candidates import n_wanted
from retrieval.filters import Attribute, Compare, Filter, Kind
from retrieval.milvus.client import collection_name
from retrieval.milvus.index import served_limit
from retrieval.milvus.wire import served_ef
from retrieval.personal import DEEP, first_limit
from retrieval.queries import Query

N_ITEMS, MILLION = 50_000, 1_000_000
N_USERS = 200
N_CALLERS = 16
N_PLACES = 20
ROUNDS, QUICK_ROUNDS = 3, 1
SECONDS, TURNS = 2.0, 3
"""Of many callers: how long each side is asked, and how often in a round. This machine's memory is
at times half as fast as at others, so short turns, and ratios of neighbours."""
N_WANTED_CATEGORIES, PRICE = 5, 60
RPC_TIMEOUT_S = 10.0

console = Console(stderr=True)

Ask = Callable[[int], Awaitable[Any]]
"""Asks for one user, by row."""


def recommend(quick: bool) -> Result:
    """Measure and judge at 50,000 items."""
    figures, against = _measured(N_ITEMS, QUICK_ROUNDS if quick else ROUNDS)
    ok = (
        figures["p50_ratio"] <= 1.4
        and figures["throughput_ratio"] >= 1.2
        and figures["index_recall"] >= 0.98
    )
    bar = {"p50_ratio": "<= 1.4", "throughput_ratio": ">= 1.2", "index_recall": ">= 0.98"}
    return Result(figures, against, bar, ok)


def recommend_million(quick: bool) -> Result:
    """Measure at a million items, or 200,000 of them; there is no bar."""
    figures, against = _measured(MILLION // 5 if quick else MILLION, QUICK_ROUNDS)
    return Result(figures, against)


def _measured(n_items: int, n_rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    with console.status(f"making {n_items:,} items"):
        shop = make_shop(n_items, N_USERS)
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as folder:
        parts = frozenset({"kafka", "milvus", "retrieval"})
        with running_stack(Path(folder), parts, Silent()) as endpoints:
            built = open_shop(shop, endpoints, console)
            return asyncio.run(_compare(shop, endpoints, built, n_rounds))


async def _compare(
    shop: Shop, endpoints: Endpoints, built: Built, n_rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    collection = collection_name(Topics().prefix, MODEL)
    raw = RawMilvus(endpoints.milvus_uri, collection, _where())
    channel = aio_channel(endpoints.retrieval)
    stub = RecommendServiceStub(channel)

    async def ask_raw(user: int) -> list[list[str]]:
        return await raw.search(shop.users[user], limits[user], served_ef(limits[user]))

    async def ask_feed(user: int) -> Feed:
        response = await stub.Recommend(RecommendRequest(query=_query(user)), timeout=RPC_TIMEOUT_S)
        feed: Feed = response.feed
        if feed.source != Source.SOURCE_REFINED or len(feed.items) != N_PLACES:
            raise FreshetError(f"a feed was not the best one: {feed.degraded_reason or feed}")
        return feed

    try:
        feeds = [await ask_feed(user) for user in range(N_USERS)]
        limits = [await _limit(shop, raw, user) for user in range(N_USERS)]
        hits = [await ask_raw(user) for user in range(N_USERS)]
        alone = await _alone({"raw": ask_raw, "feed": ask_feed}, n_rounds)
        together = await _together({"raw": ask_raw, "feed": ask_feed}, n_rounds)
    finally:
        await raw.close()
        await channel.close()
    p50 = {name: 1000 * median(times) for name, times in alone.items()}
    figures = {
        "p50_ratio": round(p50["feed"] / p50["raw"], 3),
        "throughput_ratio": round(float(np.median(together["feed"] / together["raw"])), 3),
        "index_recall": round(_recall(shop, hits, limits), 4),
        "p50_ms": round(p50["feed"], 2),
        "p99_ms": round(1000 * float(np.quantile(alone["feed"], 0.99)), 2),
        "users_per_s": round(float(np.median(together["feed"]))),
        **_variety(shop, feeds),
        "n_items": shop.n_items,
        "n_users": N_USERS,
        "n_callers": N_CALLERS,
        "limit": median(limits),
        "ef": median(map(served_ef, limits)),
        "rows_s": round(built.rows_s, 1),
        "index_s": round(built.index_s, 1),
        "memory_mib": _memory_mib(),
    }
    against = {
        "raw_p50_ms": round(p50["raw"], 2),
        "raw_p99_ms": round(1000 * float(np.quantile(alone["raw"], 0.99)), 2),
        "raw_users_per_s": round(float(np.median(together["raw"]))),
    }
    return figures, against


async def _alone(asks: Mapping[str, Ask], n_rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each question, one after the other, both sides in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in asks}
    for _ in track(range(n_rounds), "one caller", console=console):
        for user in range(N_USERS):
            for name, ask in asks.items():
                start = time.perf_counter()
                await ask(user)
                seconds[name].append(time.perf_counter() - start)
    return seconds


async def _together(asks: Mapping[str, Ask], n_rounds: int) -> dict[str, Floats]:
    """Return users a second of N_CALLERS at once, in turns."""
    rates: dict[str, list[float]] = {name: [] for name in asks}
    for _ in track(range(n_rounds * TURNS), f"{N_CALLERS} callers", console=console):
        for name, ask in asks.items():
            rates[name].append(await _rate(ask))
    return {name: np.array(found, np.float32) for name, found in rates.items()}


async def _rate(ask: Ask) -> float:
    users = cycle(range(N_USERS))
    start = time.perf_counter()

    async def call_on() -> int:
        n_asked = 0
        while time.perf_counter() < start + SECONDS:
            await ask(next(users))
            n_asked += 1
        return n_asked

    n_asked = sum(await asyncio.gather(*(call_on() for _ in range(N_CALLERS))))
    return n_asked / (time.perf_counter() - start)


async def _limit(shop: Shop, raw: RawMilvus, user: int) -> int:
    """Return how many hits an interest is asked for, as the server does: by how many of those of
    the last feed had been seen."""
    seen = {f"{TENANT}/{item_id(row)}" for row in shop.seen[user].tolist()}
    hits = await raw.search(shop.users[user], DEEP, served_ef(DEEP))
    if not any(hits):
        raise FreshetError("Milvus found nothing; is its collection loaded?")
    passed_over = 0
    for found in hits:
        candidates = [place for place, key in enumerate(found) if key not in seen]
        last = [*candidates, len(found)][: n_wanted(N_PLACES)][-1]
        passed_over = max(passed_over, sum(key in seen for key in found[:last]))
    return served_limit(first_limit(N_PLACES, passed_over))


def _recall(shop: Shop, hits: Sequence[Sequence[Sequence[str]]], limits: Sequence[int]) -> float:
    """Return which share of the exactly nearest items that the filter lets through was found: of as
    many as each user's searches were asked for."""
    rows = np.flatnonzero(_passing(shop))
    shares = []
    for interests, found, limit in zip(shop.users, hits, limits, strict=True):
        scores = shop.vectors[rows] @ interests.T  # (n, K)
        for column, ids in zip(scores.T, found, strict=True):
            exact = rows[np.argpartition(-column, limit)[:limit]]
            names = {f"{TENANT}/{item_id(row)}" for row in exact.tolist()}
            shares.append(len(names & set(ids)) / limit)
    return float(np.mean(shares))


def _variety(shop: Shop, feeds: Sequence[Feed]) -> dict[str, float]:
    """Compare feeds with the plain top n: unseen items by their best score alone."""
    wanted = _passing(shop)
    ours, plains, shared = [], [], []
    for user, feed in enumerate(feeds):
        allowed = wanted.copy()
        allowed[shop.seen[user]] = False
        best = np.where(allowed, (shop.vectors @ shop.users[user].T).max(axis=1), -np.inf)
        plain = np.argsort(-best)[:N_PLACES].tolist()
        mine = [int(item.item_id.removeprefix("item-")) for item in feed.items]
        ours.append(_distance(shop.vectors[mine]))
        plains.append(_distance(shop.vectors[plain]))
        shared.append(len(set(mine) & set(plain)) / N_PLACES)
    return {
        "diversity": round(float(np.mean(ours)), 3),
        "diversity_of_plain_top_n": round(float(np.mean(plains)), 3),
        "shared_with_plain_top_n": round(float(np.mean(shared)), 3),
    }


def _passing(shop: Shop) -> npt.NDArray[np.bool_]:
    """Return which items the filter of `_query` lets through. (N,)"""
    return (shop.categories < N_WANTED_CATEGORIES) & (shop.prices < PRICE)


def _distance(vectors: Floats) -> float:
    """Return the mean of 1 - cosine over pairs."""
    cosines = vectors @ vectors.T
    n = len(vectors)
    return float(1 - (cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def _query(user: int) -> FeedQuery:
    return FeedQuery(
        user_id=user_id(user),
        n=N_PLACES,
        categories=[category(number) for number in range(N_WANTED_CATEGORIES)],
        filter=f"price < {PRICE}",
    )


def _where() -> Filter:
    """The same as the feed's, as its service reads it."""
    cheap = Compare(Attribute("price", Kind.NUMBER), "<", float(PRICE))
    return Query(TENANT, "", N_PLACES, tuple(_query(0).categories), filter=cheap).where


def _memory_mib() -> dict[str, int]:
    """Return the resident memory of Milvus and of the retrieval process, by name."""
    found = {"milvus": 0, "retrieval": 0}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            words = " ".join(process.cmdline())
            for name, mark in (("milvus", "milvus run"), ("retrieval", "retrieval.server")):
                if mark in words:
                    found[name] += process.memory_info().rss // 2**20
    return found
