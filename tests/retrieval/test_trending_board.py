import pytest

from protos.keys import compose_key
from protos.rec.v1.interests_pb2 import TrendingItem, TrendingList
from retrieval.store import Store
from retrieval.trending import TrendingBoard, add_up
from tests.retrieval.retrieval_world import record

HOUR_MS = 3_600_000


def ranking(*scores, partition=0, category="", as_of_ms=0, half_life_ms=HOUR_MS):
    return TrendingList(
        tenant="default",
        category=category,
        partition=partition,
        as_of_ms=as_of_ms,
        half_life_ms=half_life_ms,
        items=[TrendingItem(item_id=item_id, score=score) for item_id, score in scores],
    )


@pytest.fixture
def board(tmp_path):
    store = Store(tmp_path / "store")
    yield TrendingBoard(store, on_change=lambda tenants: None)
    store.close()


def put(board, *lists, key=None):
    board.apply(
        "trending", [record(key or compose_key("default", one.category), one) for one in lists]
    )


def test_partitions_are_added_up():
    assert add_up([ranking(("a", 2), ("b", 1)), ranking(("b", 4), partition=1)]) == (
        ("b", 1 + 4),
        ("a", 2),
    )


def test_lists_of_different_moments_are_decayed_to_the_newest():
    old = ranking(("a", 8.0), as_of_ms=0)
    new = ranking(("b", 3.0), partition=1, as_of_ms=2 * HOUR_MS)

    assert add_up([old, new]) == (("b", 3.0), ("a", 8.0 / 2 / 2))


def test_ties_stand_in_the_order_of_the_ids():
    assert add_up([ranking(("b", 1), ("a", 1))]) == (("a", 1), ("b", 1))


def test_a_newer_list_of_a_partition_replaces_its_older_one(board):
    put(board, ranking(("a", 5)), ranking(("c", 1), partition=1))
    assert board.top("default")[0] == ("a", 5)

    put(board, ranking(("b", 5)))

    assert board.top("default") == (("b", 5), ("c", 1))


def test_categories_are_apart(board):
    put(board, ranking(("a", 5)), ranking(("b", 1), category="war"))

    assert board.top("default", "war") == (("b", 1),)
    assert board.top("default", "comedy") == board.top("other") == ()


def test_a_list_that_is_no_list_is_left_out(board):
    board.apply("trending", [record(compose_key("default", ""), b"\xff\xff")])

    assert board.top("default") == ()


def test_a_deleted_list_is_gone(board):
    put(board, ranking(("a", 5), category="war"))

    board.apply("trending", [record(compose_key("default", "war"), None, 9, partition=0)])

    assert board.top("default", "war") == ()
