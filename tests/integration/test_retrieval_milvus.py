"""Items in a real Milvus 2.3.5: written, found, filtered, deleted."""

import asyncio
import itertools
import time
import uuid

import numpy as np
import pytest

from protos.errors import DependencyDown
from protos.keys import compose_key
from retrieval.catalogue import CatalogueItem, parse_item
from retrieval.filters import And, Available, InCategories, NotItems, TenantIs, predicate
from retrieval.milvus.client import MissingCollection, WrongDimension, collection_name
from retrieval.milvus.index import ItemIndex
from retrieval.milvus.writer import ItemWriter
from tests.retrieval.retrieval_world import item_vector, record, unit

HERE = TenantIs("default")
AWKWARD = ('say "hi"', "it's", "back\\slash", "new\nline", '"] or true or ["', "ü💥", "a,b", "%")


@pytest.fixture(scope="module")
def prefix():
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def writer(milvus_uri, prefix):
    made = ItemWriter(milvus_uri, prefix, timeout_s=30)
    yield made
    for collection in made.collections():
        made.drop(collection)
    made.close()


@pytest.fixture(scope="module")
def collection(writer):
    return writer.ensure("shared/v1", 4)


@pytest.fixture
async def index(milvus_uri, prefix):
    made = ItemIndex(milvus_uri, prefix)
    yield made
    await made.close()


def catalogue_item(item_id, vector, **fields) -> CatalogueItem:
    message = item_vector(item_id, vector, model="shared/v1", **fields)
    return parse_item("items", record(compose_key("default", item_id), message))


def put(writer, collection, *items):
    writer.upsert(collection, {item.key: item for item in items})


async def found(index, where, *queries, limit=100):
    queries = np.stack(queries or (unit(1, 0, 0, 0),))
    hits = await index.search("shared/v1", queries, where, limit=limit, timeout_s=10)
    return [[key.decode().removeprefix("default/") for key in one.keys] for one in hits]


async def until(look, wanted, seconds=10):
    """Reads are bounded, not strong: what was written is seen within seconds."""
    end = time.monotonic() + seconds
    for pause_s in itertools.chain([0], itertools.repeat(0.05)):
        await asyncio.sleep(pause_s)
        seen = await look()
        if seen == wanted or time.monotonic() > end:
            break
    assert seen == wanted


async def test_each_interest_finds_its_nearest_in_one_search(writer, collection, index):
    mine = InCategories(("nearest",))
    along = [unit(1, 0.1 * row, 0, 0) for row in range(3)]
    across = [unit(0, 0, 1, 0.1 * row) for row in range(3)]
    put(
        writer,
        collection,
        *(catalogue_item(f"x{row}", one, categories=["nearest"]) for row, one in enumerate(along)),
        *(catalogue_item(f"z{row}", one, categories=["nearest"]) for row, one in enumerate(across)),
    )

    await until(
        lambda: found(index, mine, unit(1, 0, 0, 0), unit(0, 0, 1, 0), limit=2),
        [["x0", "x1"], ["z0", "z1"]],
    )


async def test_an_upsert_replaces_and_a_delete_removes(writer, collection, index):
    mine = InCategories(("changing",))
    put(writer, collection, catalogue_item("c", unit(1, 0, 0, 0), categories=["changing"]))
    await until(lambda: found(index, mine), [["c"]])

    put(writer, collection, catalogue_item("c", unit(1, 0, 0, 0), categories=["changed"]))
    await until(lambda: found(index, mine), [[]])
    await until(lambda: found(index, InCategories(("changed",))), [["c"]])

    writer.delete(collection, [compose_key("default", "c")])
    await until(lambda: found(index, InCategories(("changed",))), [[]])


async def test_after_the_warm_up_all_that_was_written_before_is_found(writer, collection, index):
    for time_ in range(10):
        category = f"before-{time_}"
        put(writer, collection, catalogue_item("b", unit(1, 0, 0, 0), categories=[category]))

        await index.warm_up(10)

        assert await found(index, InCategories((category,))) == [["b"]]


async def test_filters_mean_in_milvus_what_they_mean_here(writer, collection, index):
    items = [
        catalogue_item(f"f{row}", unit(1, 0, 0, 0.1 + 0.1 * row), categories=["filters", text])
        for row, text in enumerate(AWKWARD)
    ]
    items.append(catalogue_item("gone", unit(1, 0, 0, 0), categories=["filters"], available=False))
    put(writer, collection, *items)
    mine = InCategories(("filters",))
    await until(lambda: found(index, mine), [[item.item_id for item in [items[-1], *items[:-1]]]])
    for node in (
        Available(),
        NotItems(("f0", 'f1" or true')),
        TenantIs('default" or true or "'),
        *(InCategories((text,)) for text in AWKWARD),
    ):
        where = And((mine, HERE, node))

        (ids,) = await found(index, where)

        assert sorted(ids) == sorted(item.item_id for item in items if predicate(where)(item))


async def test_interests_of_another_length_are_refused_before_milvus_sees_them(collection, index):
    with pytest.raises(WrongDimension, match="index the items again"):
        await found(index, HERE, unit(1, 0))


async def test_a_model_without_items_says_so(index):
    with pytest.raises(MissingCollection):
        await index.search("nobody", np.ones((1, 4)), HERE, limit=1, timeout_s=5)


async def test_a_collection_for_vectors_of_another_length_is_refused(writer, collection):
    with pytest.raises(WrongDimension):
        writer.ensure("shared/v1", 5)


async def test_a_prefix_sees_its_own_collections_alone(writer, collection, milvus_uri, prefix):
    longer = ItemWriter(milvus_uri, f"{prefix}_more")

    assert [one.model_version for one in writer.collections()] == ["shared/v1"]
    assert longer.collections() == []
    longer.close()


async def test_an_unreachable_milvus_is_a_dependency_down_at_once():
    index = ItemIndex("http://127.0.0.1:1", "x")
    start = time.monotonic()

    for _ in range(3):
        with pytest.raises(DependencyDown):
            await index.search("m", np.ones((1, 4)), HERE, limit=1, timeout_s=1)

    assert time.monotonic() - start < 2
    await index.close()


def test_names_that_milvus_forbids_are_squeezed_and_stay_apart():
    names = {collection_name("rec", version) for version in ("v1.0", "v1_0", "v1-0", "v" * 300)}

    assert len(names) == 4
    assert all(len(name) <= 255 and name.replace("_", "").isalnum() for name in names)
