from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.datasets import load
from infra.datasets.catalogue import CATALOGUE_SCHEMA
from infra.datasets.writing import write_batches
from infra.kafka_topics import user_partition
from protos.actions import declared_actions
from protos.rec.v1.events_pb2 import Erasure, EventBatch
from protos.rec.v1.items_pb2 import Item
from stream.bench.oracle import replay
from stream.export import EXPORT_SCHEMA, ExportReport, event_batches, item_batches
from tests.stream.log_world import N_PARTITIONS, Log, batch, event


def export(log, tenant="default"):
    """Return the rows of a tenant, and the report."""
    report = ExportReport()
    read = log.records.__getitem__
    batches = event_batches(read, range(N_PARTITIONS), N_PARTITIONS, tenant, report)
    return [row for batch in batches for row in batch.to_pylist()], report


def test_an_event_is_a_row_with_all_that_is_known_of_it():
    log = Log()
    known = {"event_id": "e", "value": 4.5, "session_id": "s", "scenario": "home", "variant": "b"}
    log.write(batch(event("i", recommendation_id="r", **known)))

    rows, report = export(log)

    described = {"user_id": "ann", "item_id": "i", "event_time_ms": 5_000, "action": "click"}
    assert rows == [described | known | {"recommendation_id": "r", "accepted_ms": 10_000}]
    assert (report.n_events, len(report.users), report.left_out) == (1, 1, {})


def test_what_was_sent_twice_is_one_row():
    log = Log()
    log.write(batch(event("i", event_id="e", value=1)))
    log.write(batch(event("i", event_id="e", value=2), event("j", event_id="f")))

    rows, report = export(log)

    assert [(row["item_id"], row["value"]) for row in rows] == [("i", 1), ("j", None)]
    assert report.left_out == {"duplicate": 1}


def test_of_an_erased_user_only_what_came_after_is_written():
    log = Log()
    log.write(batch(event("before")), timestamp=6_000)
    log.write(batch(event("another"), user="bea"), timestamp=6_000)
    log.write(EventBatch(user_id="ann", erase=Erasure()), timestamp=7_000)
    log.write(batch(event("late"), event("after", event_time_ms=8_000)), timestamp=9_000)

    rows, report = export(log)

    assert {(row["user_id"], row["item_id"]) for row in rows} == {
        ("bea", "another"),
        ("ann", "after"),
    }
    assert report.left_out == {"erased": 2}


def test_what_counts_in_no_history_is_counted_by_reason():
    log = Log()
    log.write(batch(event("i"), event("i", action="impression"), event("i", action="peek")))
    log.write(EventBatch(user_id=""), partition=0)
    log.write(batch(event("i")), partition=1 - user_partition("default", "ann", N_PARTITIONS))

    rows, report = export(log)

    assert [row["item_id"] for row in rows] == ["i"]
    assert report.left_out == {"impression": 1, "refused": 1, "unreadable": 1, "misplaced": 1}


def test_a_tenant_is_written_alone():
    log = Log()
    log.write(batch(event("i")))
    log.write(batch(event("j"), tenant="shop"))

    assert [row["item_id"] for row in export(log, "shop")[0]] == ["j"]


def test_items_are_written_as_they_are_now():
    records = [
        SimpleNamespace(key=key, value=None if item is None else item.SerializeToString())
        for key, item in [
            (b"default/1", Item(item_id="1", title="old")),
            (b"default/2", Item(item_id="2", title="Two", categories=["x"], created_at_ms=9)),
            (b"default/1", Item(item_id="1", title="One", text="the one")),
            (b"default/3", Item(item_id="3", title="gone")),
            (b"default/3", None),
            (b"shop/4", Item(item_id="4", title="Four", tenant="shop")),
        ]
    ]
    report = ExportReport()

    (found,) = item_batches(records, "default", report)

    rows = {row["item_id"]: row for row in found.to_pylist()}
    assert rows.keys() == {"1", "2"}
    assert rows["1"]["text"] == "the one"
    assert rows["2"] == {
        "item_id": "2",
        "title": "Two",
        "text": "Two",
        "categories": ["x"],
        "created_at_ms": 9,
        "available": None,
        "popularity": None,
        "attributes": None,
    }
    assert report.n_items == 2


def test_what_is_exported_can_be_loaded(tmp_path):
    log, report = Log(), ExportReport()
    for number in range(50):
        log.write(batch(event(f"i{number}"), user=f"u{number % 7}"))
    item = SimpleNamespace(
        key=b"default/i1", value=Item(item_id="i1", title="t").SerializeToString()
    )
    read = log.records.__getitem__
    events = event_batches(read, range(N_PARTITIONS), N_PARTITIONS, "default", report)
    items = item_batches([item], "default", report)

    tables = {"items": (CATALOGUE_SCHEMA, items), "events": (EXPORT_SCHEMA, events)}
    write_batches(tables, tmp_path / "out", "parquet")

    dataset = load(str(tmp_path / "out"))
    assert (len(dataset.events), len(dataset.items), dataset.report.n_bad) == (50, 1, 0)


EVENTS = st.builds(
    event,
    st.sampled_from(["a", "b", ""]),
    event_id=st.sampled_from(["", "1", "2", "3"]),
    action=st.sampled_from(["click", "like", "impression", "peek"]),
    event_time_ms=st.integers(-1, 20_000),
)
RECORDS = st.one_of(
    st.builds(
        lambda events, user: batch(*events, user=user),
        st.lists(EVENTS, max_size=4),
        st.sampled_from(["ann", "bea", "cem", ""]),
    ),
    st.builds(
        lambda user: EventBatch(user_id=user, erase=Erasure()), st.sampled_from(["ann", "bea"])
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(RECORDS, max_size=30))
def test_any_log_gives_each_user_the_rows_of_his_history(records):
    log = Log()
    for number, record in enumerate(records):
        log.write(record, partition=None if record.user_id else 0, timestamp=1_000 * number)

    rows, report = export(log)

    expected = replay(record for partition in log.records.values() for record in partition)
    codes = {name: action.code for name, action in declared_actions().items()}
    found = {}
    for row in rows:
        key = ("default", row["user_id"])
        item = (row["item_id"], row["event_time_ms"], codes[row["action"]])
        found.setdefault(key, []).append(item)
    assert found == {key: user.items for key, user in expected.items() if user.items}
    assert report.n_events == len(rows)
