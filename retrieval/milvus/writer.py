"""Items into Milvus.

    key VARCHAR primary (tenant/item, protos/keys.py) | vector FLOAT_VECTOR | tenant | item_id |
    title | categories ARRAY of VARCHAR | available | created_at_ms | popularity | attributes JSON

Index: HNSW by inner product (vectors have unit length), M 32, efConstruction 600: chosen by recall
under filters (docs/benchmarks.md). With 400 the graph has islands: an interest on one whose items
are all filtered out found nothing. No partition keys: upsert is unsound with them in 2.3.5.
"""

from collections.abc import Mapping, Sequence

from pymilvus import DataType, MilvusClient

from retrieval.catalogue import MAX_CATEGORIES, MAX_CATEGORY_BYTES, CatalogueItem
from retrieval.milvus.client import (
    Collection,
    WrongDimension,
    collection_name,
    described_collection,
    silence_pymilvus,
    translated,
)

MAX_TEXT_BYTES, MAX_KEY_BYTES = MAX_CATEGORY_BYTES, 1024

_INDEX = {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 32, "efConstruction": 600}}


class ItemWriter:
    """Collections and rows, for the indexer's thread. Every call blocks, at most `timeout_s`."""

    def __init__(self, uri: str, prefix: str, *, timeout_s: float = 10.0) -> None:
        silence_pymilvus()
        self._uri, self._prefix, self._timeout_s = uri, prefix, timeout_s
        self._client: MilvusClient | None = None

    def collections(self) -> list[Collection]:
        """Return the collections of this prefix."""
        with translated("list collections"):
            names = self._connected().list_collections(timeout=self._timeout_s)
            begin = collection_name(self._prefix, "")
            found = [self._describe(name) for name in names if name.startswith(begin)]
            return [c for c in found if c is not None and self._is_own(c)]

    def ensure(self, model_version: str, dim: int) -> Collection:
        """Return the version's collection, made and loaded if need be.

        Raises WrongDimension when it holds vectors of another length.
        """
        name = collection_name(self._prefix, model_version)
        with translated(f"make collection {name}"):
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
        with translated(f"upsert into {collection.name}"):
            self._connected().upsert(collection.name, rows, timeout=self._timeout_s)

    def delete(self, collection: Collection, keys: Sequence[bytes]) -> None:
        """Delete items by key; unknown ones change nothing."""
        ids = [key.decode() for key in keys]
        with translated(f"delete from {collection.name}"):
            self._connected().delete(collection.name, ids=ids, timeout=self._timeout_s)

    def drop(self, collection: Collection) -> None:
        """Remove a collection with all that is in it."""
        with translated(f"drop {collection.name}"):
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
        return described_collection(described)

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


def _row(item: CatalogueItem, model_version: str) -> dict[str, object]:
    return {
        "key": item.key.decode(),
        "vector": item.vectors[model_version],
        "tenant": item.tenant,
        "item_id": item.item_id,
        "title": item.title.encode()[:MAX_TEXT_BYTES].decode(errors="ignore"),
        "categories": list(item.categories),
        "available": item.available,
        "created_at_ms": item.created_at_ms,
        "popularity": item.popularity,
        "attributes": dict(item.attributes),
    }
