import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from encoder import history_store
from encoder.history_store import HistoryBuilder, Kept, read_histories
from infra.datasets import EVENTS_SCHEMA, open_dataset
from protos.actions import declared_actions
from protos.errors import InvalidInput
from protos.history import quantise_gap


def events(*rows):
    names = ("user_id", "item_id", "event_time_ms", "action")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return pa.table({**columns, "value": [None] * len(rows)}, schema=EVENTS_SCHEMA)


def histories_of(table, item_ids, rows_a_batch=2):
    with HistoryBuilder() as builder:
        for batch in table.to_batches(rows_a_batch):
            builder.add(batch)
        return builder.build(item_ids)


def test_events_are_in_order_of_time_and_ties_in_order_of_the_file():
    table = events(
        ("u", "b", 2000, "click"),
        ("v", "a", 0, "like"),
        ("u", "c", 1000, "click"),
        ("u", "a", 2000, "click"),
    )

    first, second = histories_of(table, ["a", "b", "c"])

    assert (first.user_id, first.item_rows.tolist()) == ("u", [2, 1, 0])
    assert first.gaps.tolist() == [0, quantise_gap(1000), 0]
    assert (second.user_id, second.item_rows.tolist()) == ("v", [0])
    assert second.actions.tolist() == [declared_actions()["like"].code]


def test_impressions_and_items_outside_the_catalogue_are_left_out():
    table = events(("u", "a", 0, "impression"), ("u", "x", 1, "click"), ("u", "a", 2, "click"))

    (only,) = histories_of(table, ["a"])

    assert only.times_ms.tolist() == [2]


def test_data_of_another_catalogue_is_an_error():
    with pytest.raises(InvalidInput, match="ids agree"):
        histories_of(events(("u", "x", 1, "click")), ["a"])


def test_events_without_a_catalogue_say_that_it_is_empty():
    with pytest.raises(InvalidInput, match=r"catalogue is empty; put a file of items"):
        histories_of(events(("u", "x", 1, "click")), [])


def test_what_is_left_out_is_counted_and_said():
    table = events(
        ("u", "a", 0, "click"),
        ("u", "a", 1, "click"),
        ("v", "a", 2, "click"),
        ("v", "x", 3, "click"),
        ("w", "x", 4, "click"),
        ("w", "a", 5, "impression"),
    )

    kept = histories_of(table, ["a"]).kept

    assert kept == Kept(n_events=5, n_outside=2, n_users=3, n_too_short=2)
    outside, short = kept.remarks()
    assert outside.startswith("2 of 5 events are on items outside the catalogue")
    assert short.startswith("2 of 3 users have fewer than two events")


def test_of_data_that_are_kept_whole_nothing_is_said():
    table = events(("u", "a", 0, "click"), ("u", "a", 1, "click"))

    assert histories_of(table, ["a"]).kept.remarks() == []


def test_reading_says_how_far_it_is(tmp_path):
    (tmp_path / "events.csv").write_text("user_id,item_id,event_time_ms\n" + "u,a,1\n" * 1_000)
    (tmp_path / "items.csv").write_text("item_id,title\na,red thing\n")
    said = {}

    def hear(what, done, of):
        said[what] = (done, of)

    read_histories(open_dataset(str(tmp_path)), on_part=hear)

    assert said == {"read, kB": (6, 6), "users": (1, 1)}


def drawn(n_events, seed=0):
    """Events of 50 users on 40 items at random times, many of them at once."""
    rng = np.random.default_rng(seed)
    columns = {
        "user_id": [f"u{n}" for n in rng.integers(0, 50, n_events)],
        "item_id": [f"i{n}" for n in rng.integers(0, 40, n_events)],
        "event_time_ms": rng.integers(0, 100_000, n_events) // 10_000 * 10_000,
        "action": rng.choice(["click", "like", "impression"], n_events).tolist(),
        "value": pa.nulls(n_events, pa.float64()),
    }
    return pa.table(columns, schema=EVENTS_SCHEMA)


def test_histories_are_those_of_a_plain_sort(monkeypatch):
    monkeypatch.setattr(history_store, "EVENTS_AT_ONCE", 64)
    table, item_ids = drawn(1_000), [f"i{n}" for n in range(30, -1, -1)]
    rows = [row for row in table.to_pylist() if row["action"] != "impression"]
    plain = {}
    for row in sorted(rows, key=lambda row: row["event_time_ms"]):
        if row["item_id"] in item_ids:
            plain.setdefault(row["user_id"], []).append(row)

    found = histories_of(table, item_ids, rows_a_batch=77)

    assert [history.user_id for history in found] == sorted(plain)
    for history in found:
        expected = plain[history.user_id]
        times = [row["event_time_ms"] for row in expected]
        actions = [declared_actions()[row["action"]].code for row in expected]
        gaps = [0, *(quantise_gap(int(gap)) for gap in np.diff(times))]
        assert [item_ids[row] for row in history.item_rows] == [r["item_id"] for r in expected]
        assert history.times_ms.tolist() == times
        assert (history.actions.tolist(), history.gaps.tolist()) == (actions, gaps)


def test_memory_does_not_grow_with_the_events(monkeypatch):
    monkeypatch.setattr(history_store, "EVENTS_AT_ONCE", 1_000)
    item_ids = [f"i{n}" for n in range(40)]
    batches = drawn(2_000).to_batches()

    def peak(n_times):
        tracemalloc.start()
        with HistoryBuilder() as builder:
            for _ in range(n_times):
                builder.add(batches[0])
            histories = builder.build(item_ids)
        assert sum(map(len, histories)) > 500 * n_times
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # what is imported only once
    assert peak(40) < 1.5 * peak(10)
