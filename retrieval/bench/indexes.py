"""`freshet bench indexes`: which index of Milvus to use. Recall against the exact answer, and time.

Each index holds the same synthetic items (shop.py), and is asked for what a feed asks for under
filters that let through less and less. A filter costs Milvus the same whatever the index, and most
of all where it reads the JSON of attributes; what the index then has to look at differs.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pymilvus import DataType, MilvusClient
from rich.console import Console
from rich.progress import track
from rich.table import Table

from infra.bench import Result
from infra.stack.launcher import Silent, running_stack
from retrieval.bench.raw import wait_until_built
from retrieval.bench.shop import Shop, category, item_id, make_shop

N_ITEMS, QUICK_ITEMS = 200_000, 50_000
N_USERS, TOGETHER = 40, 8
LIMIT = 160
BATCH = 5_000

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Index:
    name: str
    build: Mapping[str, Any]
    searches: Sequence[Mapping[str, int]]


INDEXES = (
    Index("FLAT", {"index_type": "FLAT"}, ({},)),
    Index(
        "HNSW",
        {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}},
        ({"ef": 320}, {"ef": 640}, {"ef": 1280}),
    ),
    Index(
        "HNSW_32",
        {"index_type": "HNSW", "params": {"M": 32, "efConstruction": 400}},
        ({"ef": 320}, {"ef": 640}, {"ef": 1280}),
    ),
    Index(
        "HNSW_32_600",
        {"index_type": "HNSW", "params": {"M": 32, "efConstruction": 600}},
        ({"ef": 320}, {"ef": 640}, {"ef": 1280}),
    ),
    Index(
        "IVF_FLAT",
        {"index_type": "IVF_FLAT", "params": {"nlist": 512}},
        ({"nprobe": 64}, {"nprobe": 128}),
    ),
)


def indexes(quick: bool) -> Result:
    """Measure; there is no bar."""
    shop = make_shop(QUICK_ITEMS if quick else N_ITEMS, N_USERS)
    filters = _filters(shop)
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="freshet-bench-") as folder,
        running_stack(Path(folder), frozenset({"milvus"}), Silent()) as endpoints,
    ):
        client = MilvusClient(uri=endpoints.milvus_uri, timeout=120)
        for index in INDEXES:
            built_s = _fill(client, endpoints.milvus_uri, index, shop)
            for params in index.searches:
                for name, (text, mask) in filters.items():
                    found = _measure(client, index, params, text, mask, shop)
                    told = {"index": index.name, **params, "filter": name}
                    rows.append(told | found | {"built_s": round(built_s, 1)})
            client.drop_collection(index.name)
        client.close()
    _show(rows)
    return Result({"rows": rows, "n_items": shop.n_items, "limit": LIMIT})


def _filters(shop: Shop) -> dict[str, tuple[str, npt.NDArray[np.bool_]]]:
    some = [category(number) for number in range(5)]
    few = shop.categories < 5
    any_of = f"array_contains_any(categories, {some!r})".replace("'", '"')
    cheap = 'attributes["price"] < 60'
    return {
        "available": ("available == true", np.ones(shop.n_items, np.bool_)),
        "5 of 20 categories": (f"available == true and {any_of}", few),
        "and a price": (f"available == true and {any_of} and {cheap}", few & (shop.prices < 60)),
        "and a low price": (
            f'available == true and {any_of} and attributes["price"] < 4',
            few & (shop.prices < 4),
        ),
    }


def _fill(client: MilvusClient, uri: str, index: Index, shop: Shop) -> float:
    schema = MilvusClient.create_schema(enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=shop.vectors.shape[1])
    schema.add_field("available", DataType.BOOL)
    schema.add_field(
        "categories",
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        max_capacity=64,
        max_length=64,
    )
    schema.add_field("attributes", DataType.JSON)
    params = client.prepare_index_params()
    params.add_index("vector", metric_type="IP", **index.build)
    client.create_collection(index.name, schema=schema, index_params=params)
    for begin in track(range(0, shop.n_items, BATCH), f"filling {index.name}", console=console):
        client.insert(
            index.name,
            [
                {
                    "key": item_id(row),
                    "vector": shop.vectors[row],
                    "available": True,
                    "categories": [category(int(shop.categories[row]))],
                    "attributes": {"price": float(shop.prices[row])},
                }
                for row in range(begin, min(begin + BATCH, shop.n_items))
            ],
        )
    return wait_until_built(uri, index.name, shop.n_items, 1_200).index_s


def _measure(
    client: MilvusClient,
    index: Index,
    params: Mapping[str, int],
    where: str,
    mask: npt.NDArray[np.bool_],
    shop: Shop,
) -> dict[str, float]:
    def ask(first: int, n_users: int) -> list[list[str]]:
        interests = list(shop.users[first : first + n_users].reshape(-1, shop.users.shape[2]))
        found = client.search(
            index.name,
            interests,
            filter=where,
            limit=LIMIT,
            search_params={"params": dict(params)},
            consistency_level="Eventually",
        )
        return [list(hits.ids) for hits in found]

    rows = np.flatnonzero(mask)
    n_nearest = min(LIMIT, len(rows))
    ask(0, 1)
    seconds, recalls = [], []
    for user in range(N_USERS):
        start = time.perf_counter()
        found = ask(user, 1)
        seconds.append(time.perf_counter() - start)
        scores = shop.vectors[rows] @ shop.users[user].T
        for column, ids in zip(scores.T, found, strict=True):
            nearest = rows[np.argpartition(-column, n_nearest - 1)[:n_nearest]]
            recalls.append(len({item_id(one) for one in nearest} & set(ids)) / n_nearest)
    start = time.perf_counter()
    for first in range(0, N_USERS, TOGETHER):
        ask(first, TOGETHER)
    together_s = time.perf_counter() - start
    return {
        "recall": round(float(np.mean(recalls)), 4),
        "alone_ms": round(1000 * float(np.median(seconds)), 2),
        "together_ms_per_user": round(1000 * together_s / N_USERS, 2),
        "passing": round(float(mask.mean()), 3),
    }


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table("index", "search", "filter", "recall", "ms alone", "ms together")
    for row in rows:
        search = " ".join(f"{name} {row[name]}" for name in ("ef", "nprobe") if name in row)
        cells = (row["index"], search, row["filter"], row["recall"])
        table.add_row(*map(str, (*cells, row["alone_ms"], row["together_ms_per_user"])))
    console.print(table)
