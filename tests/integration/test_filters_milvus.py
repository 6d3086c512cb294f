"""Filters mean in a real Milvus 2.3.5 what they mean in Python."""

import random
import uuid

import pytest

from protos.keys import compose_key
from retrieval.catalogue import MAX_CATEGORIES, MAX_CATEGORY_BYTES, parse_item
from retrieval.filter_language import MAX_DEPTH, MAX_VALUES, parse
from retrieval.filters import And, Available, InCategories, TenantIs, predicate
from retrieval.milvus.index import ItemIndex
from retrieval.milvus.writer import ItemWriter
from tests.retrieval.filter_trees import (
    AWKWARD,
    F32,
    TIMES_MS,
    AllDeclared,
    random_attributes,
    random_tree,
    text_of,
)
from tests.retrieval.retrieval_world import item_vector, record, unit

MODEL = "filters/v1"
N_ITEMS, N_TREES = 60, 500
OVERLONG = "c" * (MAX_CATEGORY_BYTES + 1)
MANY = [OVERLONG, *(f"c{row}" for row in range(MAX_CATEGORIES + 6))]


def catalogue_item(item_id, **fields):
    message = item_vector(item_id, unit(1, 0, 0, 0.1), model=MODEL, **fields)
    return parse_item("items", record(compose_key("default", item_id), message))


def random_items(rng):
    for row in range(N_ITEMS - 1):
        yield catalogue_item(
            str(row),
            categories=rng.sample(AWKWARD, rng.randrange(4)),
            available=rng.random() < 0.8,
            created_at_ms=rng.choice(TIMES_MS),
            popularity=rng.choice(F32),
            attributes=random_attributes(rng),
        )
    yield catalogue_item("many", categories=MANY)


@pytest.fixture(scope="module")
def items():
    return list(random_items(random.Random(7)))


@pytest.fixture(scope="module")
def prefix(milvus_uri, items):
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    writer = ItemWriter(milvus_uri, prefix, timeout_s=30)
    collection = writer.ensure(MODEL, 4)
    writer.upsert(collection, {item.key: item for item in items})
    yield prefix
    writer.drop(collection)
    writer.close()


@pytest.fixture
async def index(milvus_uri, prefix):
    made = ItemIndex(milvus_uri, prefix)
    await made.warm_up(30)
    yield made
    await made.close()


async def found(index, where):
    (hits,) = await index.search(
        MODEL, unit(1, 0, 0, 0)[None, :], where, limit=2 * N_ITEMS, timeout_s=10
    )
    return set(hits.keys)


async def test_milvus_finds_exactly_what_the_predicate_lets_through(index, items):
    rng, n_telling = random.Random(11), 0
    for _ in range(N_TREES):
        tree = random_tree(rng)
        text = text_of(rng, tree)

        keys = await found(index, parse(text, AllDeclared()))

        assert keys == {item.key for item in items if predicate(tree)(item)}, text
        n_telling += 0 < len(keys) < N_ITEMS
    assert n_telling > N_TREES / 2


async def test_categories_that_milvus_does_not_store_count_on_neither_side(index, items):
    (many,) = (item for item in items if item.item_id == "many")
    for category, is_stored in [
        ("c0", True),
        (f"c{MAX_CATEGORIES - 1}", True),
        (f"c{MAX_CATEGORIES}", False),
        (OVERLONG, False),
    ]:
        where = InCategories((category,))

        assert (await found(index, where) == {many.key}) == is_stored
        assert predicate(where)(many) == is_stored


async def test_milvus_reads_the_deepest_and_the_widest_filter_that_parses(index, items):
    ladder = "number < 1"
    for _ in range(MAX_DEPTH // 2 - 1):
        ladder = f"flag {'OR flag ' * 11} OR (flag {'AND flag ' * 11} AND ({ladder}))"
    for text in (
        " OR ".join(["number==1"] * MAX_VALUES),
        " AND ".join(["number!=1"] * MAX_VALUES),
        "NOT " * (MAX_DEPTH - 1) + "flag",
        ladder,
        f"number in [{', '.join(['1'] * MAX_VALUES)}]",
        f'text == "{"ü" * 2000}"',
        r'text == "' + r"\u0000" * 600 + '"',
    ):
        where = And((TenantIs("default"), Available(), parse(text, AllDeclared())))

        keys = await found(index, where)

        assert keys == {item.key for item in items if predicate(where)(item)}, text[:80]
