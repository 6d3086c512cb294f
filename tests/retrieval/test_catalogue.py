import numpy as np

from protos.keys import compose_key
from protos.rec.v1.items_pb2 import Dtype, Embedding
from retrieval.catalogue import MAX_CATEGORIES, MAX_CATEGORY_BYTES, Catalogue
from retrieval.measures import REFUSED_RECORDS
from retrieval.milvus.writer import _row
from tests.retrieval.retrieval_world import item_vector, record, unit

KEY = compose_key("default", "1")


def refused(what):
    return REFUSED_RECORDS.labels("items", what)._value.get()


def test_an_item_is_named_and_has_its_vector(catalogue):
    catalogue.apply("items", [record(KEY, item_vector("1", unit(1, 0), categories=["war"]))])

    item = catalogue.get("default", "1")

    assert (item.title, item.categories, item.available) == ("Title 1", ("war",), True)
    assert item.vectors["m1"].tolist() == [1, 0]


def test_half_precision_vectors_are_read(catalogue):
    message = item_vector("1", unit(1, 0))
    half = np.array([0.5, 0.25], "<f2").tobytes()
    message.embeddings.append(
        Embedding(model_version="m2", dtype=Dtype.DTYPE_F16, vector=half, dim=2)
    )

    catalogue.apply("items", [record(KEY, message)])

    assert catalogue.get("default", "1").vectors["m2"].tolist() == [0.5, 0.25]


def test_a_deleted_item_is_gone_from_memory_and_disk(catalogue):
    catalogue.apply("items", [record(KEY, item_vector("1", unit(1, 0)), 0)])

    catalogue.apply("items", [record(KEY, None, 1)])

    assert catalogue.get("default", "1") is None


def test_a_vector_of_a_wrong_length_is_refused_and_the_item_stays(catalogue):
    before, message = refused("vector"), item_vector("1", unit(1, 0))
    message.embeddings[0].dim = 3

    catalogue.apply("items", [record(KEY, message)])

    assert refused("vector") == before + 1
    assert catalogue.get("default", "1").vectors == {}


def test_what_is_no_item_is_counted_and_its_neighbours_apply(catalogue):
    before = refused("item")
    other = compose_key("default", "2")

    catalogue.apply(
        "items",
        [
            record(KEY, b"\xff", 0),
            record(KEY, item_vector("2", unit(1, 0)), 1),
            record(other, item_vector("2", unit(1, 0)), 2),
        ],
    )

    assert refused("item") == before + 2
    assert catalogue.get("default", "1") is None
    assert catalogue.get("default", "2") is not None


def test_an_items_categories_are_those_that_milvus_stores(catalogue):
    names = ["c" * (MAX_CATEGORY_BYTES + 1), *(f"c{row}" for row in range(MAX_CATEGORIES + 1))]
    catalogue.apply("items", [record(KEY, item_vector("1", unit(1, 0), categories=names))])

    item = catalogue.get("default", "1")

    assert item.categories == tuple(names[1:-1])
    assert list(item.categories) == _row(item, "m1")["categories"]


def test_a_restart_knows_the_items_and_where_to_go_on(catalogue, store):
    catalogue.apply("items", [record(KEY, item_vector("1", unit(1, 0)), 6)])

    again = Catalogue(store, max_bytes=2**20)

    assert again.get("default", "1").title == "Title 1"
    assert store.next_offsets("catalogue:items") == {0: 7}
