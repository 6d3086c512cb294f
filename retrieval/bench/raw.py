"""Milvus alone, as its own client asks it: what a feed is measured against."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pymilvus import AsyncMilvusClient, MilvusClient
from rich.console import Console
from rich.progress import Progress

from infra.endpoints import Endpoints
from infra.kafka_topics import Topics
from protos.vectors import Floats
from retrieval.bench.shop import MODEL, Shop, publish
from retrieval.filters import Filter, render
from retrieval.milvus.client import collection_name

POLL_S = 0.5
BUILD_TIMEOUT_S = 3_000.0


@dataclass(frozen=True, slots=True)
class Built:
    rows_s: float
    """Until every row was there."""
    index_s: float
    """From then until the index was built."""


class RawMilvus:
    def __init__(self, uri: str, collection: str, where: Filter) -> None:
        self._client = AsyncMilvusClient(uri=uri, timeout=30)
        self._collection, self._where = collection, render(where)

    async def search(self, interests: Floats, limit: int, ef: int) -> list[list[str]]:
        """Return the ids of each interest's hits. (K, D)"""
        found = await self._client.search(
            self._collection,
            list(interests),
            filter=self._where,
            limit=limit,
            search_params={"params": {"ef": ef}},
            consistency_level="Eventually",
            timeout=30,
        )
        return [list(hits.ids) for hits in found]

    async def close(self) -> None:
        await self._client.close()


def open_shop(shop: Shop, endpoints: Endpoints, console: Console) -> Built:
    """Write a shop to Kafka, and wait until Milvus holds and uses all of it."""
    with Progress(console=console, transient=True) as progress:
        publish(shop, endpoints.kafka_bootstrap, Topics(), progress)
    with console.status("waiting until Milvus has all items and its index"):
        name = collection_name(Topics().prefix, MODEL)
        return wait_until_built(endpoints.milvus_uri, name, shop.n_items, BUILD_TIMEOUT_S)


def wait_until_built(uri: str, name: str, n_rows: int, timeout_s: float) -> Built:
    """Wait until a collection holds all rows, seal it, and wait until its index is built.

    Milvus seals a segment when it is full or after some minutes, and searches what is not sealed
    row by row; the index is what is to be measured. Raises TimeoutError.
    """
    client = MilvusClient(uri=uri, timeout=60)
    begin = time.monotonic()

    def until(is_so: Callable[[], bool]) -> float:
        while not is_so():
            if time.monotonic() - begin > timeout_s:
                raise TimeoutError(f"{name} was not built within {timeout_s:.0f} s")
            time.sleep(POLL_S)
        return time.monotonic() - begin

    try:
        rows_s = until(lambda: client.has_collection(name) and _count(client, name) >= n_rows)
        client.flush(name)
        (index,) = client.list_indexes(name)
        until(lambda: _is_built(client.describe_index(name, index)))
        built_s = until(lambda: _is_used(client, name))
    finally:
        client.close()
    return Built(rows_s, built_s - rows_s)


def _count(client: MilvusClient, name: str) -> int:
    (row,) = client.query(name, filter="", output_fields=["count(*)"])
    return int(row["count(*)"])


def _is_used(client: MilvusClient, name: str) -> bool:
    """Return whether all rows are searched by the index, none one by one."""
    segments = client.list_loaded_segments(name)
    return bool(segments) and all(segment.index_name for segment in segments)


def _is_built(described: dict[str, object]) -> bool:
    return described["pending_index_rows"] == 0 and described["indexed_rows"] != 0
