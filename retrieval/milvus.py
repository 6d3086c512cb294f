"""Items in Milvus; the only module that imports pymilvus, and where its errors become ours.

One collection a model version, freshet_<prefix>_<version>: vectors of different versions never meet
in one search. The version itself stands in the collection's description, so names may be squeezed
into what Milvus allows.

    key VARCHAR primary (tenant/item, protos/keys.py) | vector FLOAT_VECTOR | tenant | item_id |
    title | categories ARRAY of VARCHAR | available | created_at_ms | popularity | attributes JSON

Index: HNSW by inner product (vectors have unit length), M 16, efConstruction 200. ef is at least
twice the limit: on 50,000 synthetic items of 64 values, 136 hits each were 99.9% of the exact ones,
at ef 136 as at 544. Reads are Eventually consistent for serving: Strong ones wait about 200 ms, and
the catalogue (catalogue.py) drops what was deleted meanwhile.
Facts of 2.3.5: upsert is unsound with partition keys, so there are none; no filter templates.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import numpy as np
import xxhash
from pymilvus import AsyncMilvusClient, DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from protos.errors import DependencyDown, FreshetError, NotReady, VersionMismatch
from protos.vectors import Floats
from retrieval.catalogue import CatalogueItem
from retrieval.filters import Available, Filter, render
from retrieval.measures import SEARCH_SECONDS, SEARCHES

MAX_LIMIT = 4096
"""Hits of one search; Milvus allows 16,384, at a cost that no feed is worth."""
MAX_CATEGORIES, MAX_TEXT_BYTES, MAX_KEY_BYTES = 64, 1024, 1024

_INDEX = {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 16, "efConstruction": 200}}
_NOT_FOUND, _NOT_LOADED = 100, 101
_RETRY_MISSING_S = 1.0


class MissingCollection(NotReady):
    """No items of this model version are in Milvus (yet)."""


class WrongDimension(VersionMismatch):
    """Vectors of another length than the collection's."""


class MilvusRefused(FreshetError):
    """Milvus answered, and said no: sending the same again does not help."""


@dataclass(frozen=True, slots=True)
class Collection:
    name: str
    model_version: str
    dim: int
    uid: int
    """Milvus's own id: another one means that the collection was made anew, empty."""


@dataclass(frozen=True, slots=True)
class Hits:
    """What one interest found, best first."""

    keys: tuple[bytes, ...]
    scores: tuple[float, ...]


def collection_name(prefix: str, model_version: str) -> str:
    """Return a name that Milvus allows; different for different versions."""
    return f"freshet_{_squeezed(prefix)}_{_squeezed(model_version)}"


def _squeezed(text: str) -> str:
    if re.fullmatch(r"[a-zA-Z0-9_]{0,100}", text):
        return text
    return f"{re.sub(r'[^a-zA-Z0-9_]', '_', text)[:80]}_{xxhash.xxh32_hexdigest(text.encode())}"


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, grpc.RpcError, OSError) as error:
        raise DependencyDown(f"Milvus did not {what}: {str(error) or 'timeout'}") from error
    except MilvusException as error:
        raise _translate(error, what) from error


def _translate(error: MilvusException, what: str) -> FreshetError:
    message = f"Milvus did not {what}: {error.message or error}"
    if error.code == _NOT_FOUND:
        return MissingCollection(message)
    if error.code == _NOT_LOADED:
        return DependencyDown(message)
    # Codes 1 to 99 are the server's own state or the client's connection, 65535 its catch-all.
    if isinstance(error.code, int) and 1100 <= error.code < 65535:
        return MilvusRefused(message)
    if error.code == 65535 and ("dimension" in message or "cannot parse" in message):
        return MilvusRefused(message)
    return DependencyDown(message)


def _quiet() -> None:
    # pymilvus logs each failed call with a stack trace; ours says it once.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


class ItemWriter:
    """Collections and rows, for the indexer's thread. Every call blocks, at most `timeout_s`."""

    def __init__(self, uri: str, prefix: str, *, timeout_s: float = 10.0) -> None:
        _quiet()
        self._uri, self._prefix, self._timeout_s = uri, prefix, timeout_s
        self._client: MilvusClient | None = None

    def collections(self) -> list[Collection]:
        """Return the collections of this prefix."""
        with _translated("list collections"):
            names = self._connected().list_collections(timeout=self._timeout_s)
            begin = collection_name(self._prefix, "")
            found = [self._describe(name) for name in names if name.startswith(begin)]
            return [c for c in found if c is not None and self._is_own(c)]

    def ensure(self, model_version: str, dim: int) -> Collection:
        """Return the version's collection, made and loaded if need be.

        Raises WrongDimension when it holds vectors of another length.
        """
        name = collection_name(self._prefix, model_version)
        with _translated(f"make collection {name}"):
            client = self._connected()
            if not client.has_collection(name, timeout=self._timeout_s):
                self._create(client, name, model_version, dim)
            else:
                client.load_collection(name, timeout=self._timeout_s)
            found = self._describe(name)
        if found is None or found.dim != dim:
            raise WrongDimension(f"collection {name} holds no vectors of {dim} values")
        return found

    def upsert(self, collection: Collection, items: Mapping[bytes, CatalogueItem]) -> None:
        """Write items by key. All of them have a vector of the collection's version."""
        rows = [_row(item, collection.model_version) for item in items.values()]
        with _translated(f"upsert into {collection.name}"):
            self._connected().upsert(collection.name, rows, timeout=self._timeout_s)

    def delete(self, collection: Collection, keys: Sequence[bytes]) -> None:
        """Delete items by key; unknown ones change nothing."""
        ids = [key.decode() for key in keys]
        with _translated(f"delete from {collection.name}"):
            self._connected().delete(collection.name, ids=ids, timeout=self._timeout_s)

    def drop(self, collection: Collection) -> None:
        """Remove a collection with all that is in it."""
        with _translated(f"drop {collection.name}"):
            self._connected().drop_collection(collection.name, timeout=self._timeout_s)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _is_own(self, collection: Collection) -> bool:
        return collection.name == collection_name(self._prefix, collection.model_version)

    def _connected(self) -> MilvusClient:
        if self._client is None:
            self._client = MilvusClient(uri=self._uri, timeout=self._timeout_s)
        return self._client

    def _describe(self, name: str) -> Collection | None:
        described = self._connected().describe_collection(name, timeout=self._timeout_s)
        return _collection(described)

    def _create(self, client: MilvusClient, name: str, model_version: str, dim: int) -> None:
        schema = MilvusClient.create_schema(description=model_version, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=MAX_KEY_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        for field in ("tenant", "item_id", "title"):
            schema.add_field(field, DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
        schema.add_field(
            "categories",
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=MAX_CATEGORIES,
            max_length=MAX_TEXT_BYTES,
        )
        schema.add_field("available", DataType.BOOL)
        schema.add_field("created_at_ms", DataType.INT64)
        schema.add_field("popularity", DataType.FLOAT)
        schema.add_field("attributes", DataType.JSON)
        index = client.prepare_index_params()
        index.add_index("vector", **_INDEX)
        # Making and loading the first collection takes seconds, also on an idle server.
        client.create_collection(name, schema=schema, index_params=index, timeout=60)


class ItemIndex:
    """Searches, for the event loop. Milvus may be away: then every call is DependencyDown, at once
    for a moment after a failure, so that callers do not queue up behind timeouts."""

    def __init__(self, uri: str, prefix: str, *, pause_s: float = 0.5) -> None:
        _quiet()
        self._uri, self._prefix, self._pause_s = uri, prefix, pause_s
        self._client: AsyncMilvusClient | None = None
        self._collections: dict[str, tuple[Collection | None, float]] = {}
        self._down_until_s = 0.0

    async def search(
        self, model_version: str, queries: Floats, where: Filter, *, limit: int, timeout_s: float
    ) -> list[Hits]:
        """Search the items of a model version: one Hits for each query, in one call.

        Args:
            queries: (K, D)
            limit: 1 to MAX_LIMIT hits each.

        Raises:
            MissingCollection: nothing of this version has been indexed yet.
            WrongDimension: the queries are not as long as the collection's vectors.
            DependencyDown: Milvus is away or too slow.
        """
        if time.monotonic() < self._down_until_s:
            raise DependencyDown("Milvus did not answer a moment ago; it is asked again shortly")
        start = time.perf_counter()
        try:
            with _translated("search"):
                async with asyncio.timeout(timeout_s):
                    hits = await self._search(model_version, queries, where, limit, timeout_s)
        except MissingCollection:
            self._collections.pop(model_version, None)
            SEARCHES.labels("missing").inc()
            raise
        except DependencyDown:
            self._down_until_s = time.monotonic() + self._pause_s
            SEARCHES.labels("down").inc()
            raise
        SEARCHES.labels("ok").inc()
        SEARCH_SECONDS.observe(time.perf_counter() - start)
        return hits

    async def warm_up(self, timeout_s: float) -> None:
        """Connect, and search each collection once, under Strong consistency: what was written
        before is found from then on, and the first search of a collection costs seconds.

        Raises DependencyDown when Milvus is away or takes longer.
        """
        begin = collection_name(self._prefix, "")
        with _translated("answer in time"):
            async with asyncio.timeout(timeout_s):
                client = self._connected()
                names = await client.list_collections(timeout=timeout_s)
                for name in filter(lambda name: name.startswith(begin), names):
                    found = _collection(await client.describe_collection(name, timeout=timeout_s))
                    if found is not None and name == self._name(found.model_version):
                        await self._first_search(found, timeout_s)

    async def _first_search(self, collection: Collection, timeout_s: float) -> None:
        zeros = np.zeros((1, collection.dim), np.float32)
        version = collection.model_version
        await self._search(version, zeros, Available(), 1, timeout_s, consistency="Strong")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _search(
        self,
        model_version: str,
        queries: Floats,
        where: Filter,
        limit: int,
        timeout_s: float,
        consistency: str = "Eventually",
    ) -> list[Hits]:
        collection = await self._collection(model_version, timeout_s)
        if queries.shape[1] != collection.dim:
            SEARCHES.labels("wrong_dimension").inc()
            raise WrongDimension(
                f"interests have {queries.shape[1]} values, items of {model_version} have "
                f"{collection.dim}; encoder and index disagree, index the items again"
            )
        found = await self._connected().search(
            collection.name,
            list(queries),
            filter=render(where),
            limit=limit,
            search_params={"params": {"ef": max(128, 2 * limit)}},
            consistency_level=consistency,
            timeout=timeout_s,
        )
        return [
            Hits(tuple(key.encode() for key in hits.ids), tuple(hits.distances)) for hits in found
        ]

    async def _collection(self, model_version: str, timeout_s: float) -> Collection:
        found, asked_s = self._collections.get(model_version, (None, -_RETRY_MISSING_S))
        if found is None and time.monotonic() - asked_s >= _RETRY_MISSING_S:
            name = self._name(model_version)
            client = self._connected()
            if await client.has_collection(name, timeout=timeout_s):
                found = _collection(await client.describe_collection(name, timeout=timeout_s))
            self._collections[model_version] = (found, time.monotonic())
        if found is None:
            raise MissingCollection(f"no items of model {model_version} are indexed yet")
        return found

    def _name(self, model_version: str) -> str:
        return collection_name(self._prefix, model_version)

    def _connected(self) -> AsyncMilvusClient:
        if self._client is None:
            self._client = AsyncMilvusClient(uri=self._uri, timeout=5)
        return self._client


def _collection(described: Mapping[str, object]) -> Collection | None:
    fields = described["fields"]
    assert isinstance(fields, list)
    for field in fields:
        if field["name"] == "vector":
            return Collection(
                str(described["collection_name"]),
                str(described["description"]),
                int(field["params"]["dim"]),
                int(str(described["collection_id"])),
            )
    return None


def _row(item: CatalogueItem, model_version: str) -> dict[str, object]:
    categories = [text for text in item.categories if len(text.encode()) <= MAX_TEXT_BYTES]
    return {
        "key": item.key.decode(),
        "vector": item.vectors[model_version],
        "tenant": item.tenant,
        "item_id": item.item_id,
        "title": item.title.encode()[:MAX_TEXT_BYTES].decode(errors="ignore"),
        "categories": categories[:MAX_CATEGORIES],
        "available": item.available,
        "created_at_ms": item.item.created_at_ms,
        "popularity": item.item.popularity,
        "attributes": {
            name: getattr(value, value.WhichOneof("kind"))
            for name, value in item.item.attributes.items()
            if value.WhichOneof("kind")
        },
    }
