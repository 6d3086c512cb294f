"""Searches in Milvus, for the event loop.

Reads are Eventually consistent: Strong ones wait about 200 ms, and the catalogue (catalogue.py)
drops what was deleted meanwhile. Concurrent searches of the same collection, filter and size share
a call: 16 searches together take Milvus three times as long as one.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pymilvus import AsyncMilvusClient

from protos.errors import DependencyDown
from protos.vectors import Floats
from retrieval.filters import Available, Filter, render
from retrieval.measures import SEARCH_QUERIES, SEARCH_SECONDS, SEARCHES
from retrieval.milvus.breaker import Breaker
from retrieval.milvus.client import (
    Collection,
    MissingCollection,
    WrongDimension,
    collection_name,
    described_collection,
    silence_pymilvus,
    translated,
)
from retrieval.milvus.shared_calls import SharedCalls
from retrieval.milvus.wire import EVENTUALLY, STRONG, Hits, hits_of, search_request

MAX_LIMIT = 4096
"""Hits of one search; Milvus allows 16,384, at a cost that no feed is worth."""
LEAST_LIMIT = 64
"""What most feeds need; so that small ones share their calls."""
MAX_QUERIES = 128
"""Of a shared call."""
MAX_CALLS = 2
"""Under way at once: with one, Milvus waits for us between two; three and more gain nothing."""

_RETRY_MISSING_S = 1.0


@dataclass(frozen=True, slots=True)
class _Kind:
    """Searches that may share a call."""

    collection: str
    where: str
    limit: int


class ItemIndex:
    """Make it inside the running loop. Milvus may be away: then every search is DependencyDown, at
    once until a call that tries now and then comes through."""

    def __init__(self, uri: str, prefix: str, *, timeout_s: float = 1.0) -> None:
        """
        Args:
            timeout_s: of a call; longer than any caller's patience, it ends what hangs.
        """
        silence_pymilvus()
        self._uri, self._prefix, self._timeout_s = uri, prefix, timeout_s
        self._client: AsyncMilvusClient | None = None
        self._collections: dict[str, tuple[Collection | None, float]] = {}
        self._breaker = Breaker("Milvus")
        self._calls: SharedCalls[_Kind, Floats, Hits] = SharedCalls(
            self._search, max_calls=MAX_CALLS, max_rows=MAX_QUERIES
        )

    async def search(
        self, model_version: str, queries: Floats, where: Filter, *, limit: int, timeout_s: float
    ) -> list[Hits]:
        """Search the items of a model version: one Hits for each query.

        Args:
            queries: (K, D)
            limit: 1 to MAX_LIMIT hits each.

        Raises:
            MissingCollection: nothing of this version has been indexed yet.
            WrongDimension: the queries are not as long as the collection's vectors.
            DependencyDown: Milvus is away or too slow.
        """
        try:
            self._breaker.check()
            async with asyncio.timeout(timeout_s):
                collection = await self._collection(model_version)
                _check_length(queries, collection)
                kind = _Kind(collection.name, render(where), served_limit(limit))
                found = await self._calls.ask(kind, list(queries))
        except TimeoutError as error:
            SEARCHES.labels("late").inc()
            raise DependencyDown(f"Milvus did not search within {timeout_s:.3f} s") from error
        except MissingCollection:
            self._collections.pop(model_version, None)
            SEARCHES.labels("missing").inc()
            raise
        except WrongDimension:
            SEARCHES.labels("wrong_dimension").inc()
            raise
        except DependencyDown:
            SEARCHES.labels("down").inc()
            raise
        SEARCHES.labels("ok").inc()
        return [Hits(hits.keys[:limit], hits.scores[:limit]) for hits in found]

    async def warm_up(self, timeout_s: float) -> None:
        """Connect, and search each collection once, under Strong consistency: what was written
        before is found from then on, and the first search of a collection costs seconds.

        Raises DependencyDown when Milvus is away or takes longer.
        """
        begin = collection_name(self._prefix, "")
        with translated("answer in time"):
            async with asyncio.timeout(timeout_s):
                client = self._connected()
                names = await client.list_collections(timeout=timeout_s)
                for name in filter(lambda name: name.startswith(begin), names):
                    described = await client.describe_collection(name, timeout=timeout_s)
                    found = described_collection(described)
                    if found is not None and name == self._name(found.model_version):
                        zeros = np.zeros(found.dim, np.float32)
                        where = render(Available())
                        await self._ask(found.name, [zeros], where, 1, timeout_s, STRONG)

    async def close(self) -> None:
        await self._calls.close()
        if self._client is not None:
            await self._client.close()

    async def _search(self, kind: _Kind, queries: Sequence[Floats]) -> Sequence[Hits]:
        """Make one call for all who share it; its outcome opens or closes the breaker."""
        start = time.perf_counter()
        try:
            found = await self._ask(
                kind.collection, queries, kind.where, kind.limit, self._timeout_s, EVENTUALLY
            )
        except DependencyDown:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        SEARCH_SECONDS.observe(time.perf_counter() - start)
        SEARCH_QUERIES.observe(len(queries))
        return found

    async def _ask(
        self,
        collection: str,
        queries: Sequence[Floats],
        where: str,
        limit: int,
        timeout_s: float,
        consistency: str,
    ) -> list[Hits]:
        request = search_request(collection, queries, where, limit, consistency)
        with translated("search"):
            async with asyncio.timeout(timeout_s):
                # pymilvus's own way to Milvus, with its credentials; only the answer is read here.
                connection = await self._connected()._get_connection()
                answer = await connection._async_stub.Search(request, timeout=timeout_s)
            return hits_of(answer)

    async def _collection(self, model_version: str) -> Collection:
        found, asked_s = self._collections.get(model_version, (None, -_RETRY_MISSING_S))
        if found is None and time.monotonic() - asked_s >= _RETRY_MISSING_S:
            found = await self._described(self._name(model_version))
            self._collections[model_version] = (found, time.monotonic())
        if found is None:
            raise MissingCollection(f"no items of model {model_version} are indexed yet")
        return found

    async def _described(self, name: str) -> Collection | None:
        try:
            with translated("describe a collection"):
                async with asyncio.timeout(self._timeout_s):
                    client = self._connected()
                    if not await client.has_collection(name, timeout=self._timeout_s):
                        return None
                    described = await client.describe_collection(name, timeout=self._timeout_s)
                    return described_collection(described)
        except DependencyDown:
            self._breaker.failed()
            raise

    def _name(self, model_version: str) -> str:
        return collection_name(self._prefix, model_version)

    def _connected(self) -> AsyncMilvusClient:
        if self._client is None:
            self._client = AsyncMilvusClient(uri=self._uri, timeout=5)
        return self._client


def _check_length(queries: Floats, collection: Collection) -> None:
    if queries.shape[1] != collection.dim:
        raise WrongDimension(
            f"interests have {queries.shape[1]} values, items of {collection.model_version} have "
            f"{collection.dim}; encoder and index disagree, index the items again"
        )


def served_limit(limit: int) -> int:
    """Return how many hits are asked for instead, so that more searches may share a call: of every
    power of two, four numbers are left, and none below LEAST_LIMIT."""
    step = max(16, 1 << max(0, limit.bit_length() - 3))
    return min(MAX_LIMIT, max(LEAST_LIMIT, -(-limit // step) * step))
