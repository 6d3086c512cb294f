import threading

import pyarrow as pa
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra.datasets import EVENTS_SCHEMA, ITEMS_SCHEMA, Dataset, DatasetReport, ImportReport
from protos.errors import DependencyDown, InvalidInput
from protos.rec.v1.items_pb2 import Item
from stream.item_publisher import ItemPublisher
from stream.producer import Producer
from stream.replay import Pace, Part, Sender, make_items, plan, select, shift_to
from stream.replay_command import replay
from tests.stream.fake_writer import FakeWriter

AT_ONCE = Pace()


def dataset(*rows):
    """Return a data set of (user_id, event_time_ms); its items are named after the rows."""
    events = [
        {
            "user_id": user_id,
            "item_id": str(row),
            "event_time_ms": time_ms,
            "action": "click",
            "value": None,
        }
        for row, (user_id, time_ms) in enumerate(rows)
    ]
    items = [
        {"item_id": "1", "title": "One", "text": "", "categories": ["a"], "created_at_ms": None}
    ]
    report = DatasetReport(ImportReport(), ImportReport())
    return Dataset(
        "toy",
        pa.Table.from_pylist(events, EVENTS_SCHEMA),
        pa.Table.from_pylist(items, ITEMS_SCHEMA),
        report,
    )


def rows_of(table):
    return table["row"].to_pylist()


def sent_rows(records):
    return [int(event.item_id) for record in records for event in record.events]


@pytest.fixture
def writer():
    return FakeWriter()


def sender_on(writer, stop=None):
    return Sender(
        Producer(writer), ItemPublisher(writer), tenant="shop", stop=stop or threading.Event()
    )


def ignore(n):
    pass


def test_events_go_in_time_order_and_equal_times_in_file_order():
    chosen = select(dataset(("a", 9), ("b", 5), ("c", 9), ("d", 5)), Part())

    assert rows_of(chosen) == [1, 3, 0, 2]


def test_a_share_of_the_events_is_the_first_by_time():
    chosen = select(dataset(("a", 4), ("b", 3), ("c", 2), ("d", 1)), Part(until=0.5))

    assert rows_of(chosen) == [3, 2]


def test_the_first_users_are_those_who_come_first():
    chosen = select(dataset(("a", 3), ("b", 1), ("c", 2), ("b", 4)), Part(n_users=2))

    assert rows_of(chosen) == [1, 2, 3]


def test_skip_and_limit_cut_the_time_order():
    chosen = select(dataset(("a", 1), ("b", 2), ("c", 3), ("d", 4)), Part(skip=1, limit=2))

    assert rows_of(chosen) == [1, 2]


def test_an_event_is_named_after_its_row_whatever_part_is_sent():
    data = dataset(("a", 2), ("b", 1))

    whole = [record.events[0].event_id for record in plan(select(data, Part()), "toy", AT_ONCE)]
    part = [
        record.events[0].event_id for record in plan(select(data, Part(skip=1)), "toy", AT_ONCE)
    ]

    assert whole == ["toy-1", "toy-0"]
    assert part == ["toy-0"]


def test_times_shift_together():
    chosen = shift_to(select(dataset(("a", 10), ("b", 25)), Part()), 1_000)

    assert chosen["event_time_ms"].to_pylist() == [985, 1_000]


def test_shifting_nothing_changes_nothing():
    assert len(shift_to(select(dataset(), Part()), 1_000)) == 0


@pytest.mark.parametrize(
    ("pace", "due_s"),
    [
        (Pace(), [0, 0, 0]),
        (Pace(speed=2), [0, 1, 5]),
        (Pace(events_per_s=10), [0, 0.1, 0.2]),
    ],
)
def test_an_event_is_due_by_the_pace(pace, due_s):
    chosen = select(dataset(("a", 1_000), ("b", 3_000), ("c", 11_000)), Part())

    assert [record.due_s for record in plan(chosen, "toy", pace)] == pytest.approx(due_s)


def test_no_events_are_no_records():
    assert list(plan(select(dataset(), Part()), "toy", AT_ONCE)) == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=60), st.integers(1, 7)
)
def test_grouping_keeps_every_users_order_and_loses_nothing(rows, size):
    chosen = select(dataset(*rows), Part())

    plain = list(plan(chosen, "toy", AT_ONCE))
    grouped = list(plan(chosen, "toy", AT_ONCE, size))

    assert all(len(record.events) <= size for record in grouped)
    for user_id in "abc":
        expected = sent_rows(record for record in plain if record.user_id == user_id)
        assert sent_rows(record for record in grouped if record.user_id == user_id) == expected


def test_an_event_at_the_epoch_stays_there():
    chosen = select(dataset(("a", 0)), Part())

    (record,) = plan(chosen, "toy", AT_ONCE)

    assert record.events[0].event_time_ms == 1  # 0 would have become "now"


def test_items_and_events_reach_the_log_under_the_tenant(writer):
    data, sender = dataset(("a", 1), ("b", 2)), sender_on(writer)

    sender.send_items(make_items(data.items), ignore)
    sender.send_events(plan(select(data, Part()), "toy", AT_ONCE), ignore)
    sender.finish()

    item, *events = writer.log
    expected = Item(tenant="shop", item_id="1", title="One", categories=["a"])
    assert Item.FromString(item.value) == expected
    assert [one.key for one in events] == [b"shop/a", b"shop/b"]
    assert (sender.n_items, sender.n_events, sender.n_records) == (1, 2, 2)


def test_a_told_stop_ends_between_two_events(writer):
    stop = threading.Event()
    sender = sender_on(writer, stop)

    def stop_after_two(n):
        if sender.n_events == 2:
            stop.set()

    chosen = select(dataset(("a", 1), ("b", 2), ("c", 3)), Part())
    sender.send_events(plan(chosen, "toy", AT_ONCE), stop_after_two)

    assert sender.n_events == len(writer.events()) == 2


def test_a_told_stop_finishes_the_window_of_grouped_events(writer):
    stop = threading.Event()
    stop.set()
    sender = sender_on(writer, stop)
    rows = [("a", 1), ("b", 2), ("a", 3)]
    records = list(plan(select(dataset(*rows), Part()), "toy", AT_ONCE, 2))

    sender.send_events(records[1:], ignore)  # the first, a boundary, has gone before the stop

    assert sender.n_events == sum(len(record.events) for record in records[1:])


def test_a_stop_ends_a_wait_for_what_is_due_later(writer):
    stop = threading.Event()
    sender = sender_on(writer, stop)
    chosen = select(dataset(("a", 1), ("b", 3_600_000)), Part())
    threading.Timer(0.1, stop.set).start()

    sender.send_events(plan(chosen, "toy", Pace(speed=1)), ignore)

    assert sender.n_events == 1


def test_a_failed_delivery_ends_the_replay(writer):
    writer.failures.append(DependencyDown("gone"))
    sender = sender_on(writer)
    chosen = select(dataset(("a", 1), ("b", 2)), Part())

    with pytest.raises(DependencyDown, match="gone"):
        sender.send_events(plan(chosen, "toy", AT_ONCE), ignore)


@pytest.mark.parametrize(
    "words", [["--speed", "2", "--rate", "3"], ["--flat-out", "--speed", "2"], ["--rate", "0"]]
)
def test_a_pace_that_makes_no_sense_is_refused(words):
    app = typer.Typer()
    app.command()(replay)

    result = CliRunner().invoke(app, ["toy", *words])

    assert isinstance(result.exception, InvalidInput)
