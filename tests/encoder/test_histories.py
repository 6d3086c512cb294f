import pyarrow as pa
import pytest

from encoder.histories import read_histories
from infra.datasets import EVENTS_SCHEMA
from protos.actions import declared_actions
from protos.errors import InvalidInput
from protos.history import quantise_gap


def events(*rows):
    names = ("user_id", "item_id", "event_time_ms", "action")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return pa.table({**columns, "value": [None] * len(rows)}, schema=EVENTS_SCHEMA)


def test_events_are_in_order_of_time_and_ties_in_order_of_the_file():
    table = events(
        ("u", "b", 2000, "click"),
        ("v", "a", 0, "like"),
        ("u", "c", 1000, "click"),
        ("u", "a", 2000, "click"),
    )

    first, second = read_histories(table, ["a", "b", "c"])

    assert (first.user_id, first.item_rows.tolist()) == ("u", [2, 1, 0])
    assert first.gaps.tolist() == [0, quantise_gap(1000), 0]
    assert (second.user_id, second.item_rows.tolist()) == ("v", [0])
    assert second.actions.tolist() == [declared_actions()["like"].code]


def test_impressions_and_items_outside_the_catalogue_are_left_out():
    table = events(("u", "a", 0, "impression"), ("u", "x", 1, "click"), ("u", "a", 2, "click"))

    (only,) = read_histories(table, ["a"])

    assert only.times_ms.tolist() == [2]


def test_data_of_another_catalogue_is_an_error():
    with pytest.raises(InvalidInput, match="ids agree"):
        read_histories(events(("u", "x", 1, "click")), ["a"])
