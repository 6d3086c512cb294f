import asyncio
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka_topics import user_partition
from protos.actions import declared_actions
from protos.errors import DependencyDown, InvalidInput, Overloaded
from protos.keys import compose_key
from protos.rec.v1.events_pb2 import Event
from protos.rec.v1.items_pb2 import AttributeValue, Item
from stream.item_publisher import ItemPublisher
from stream.kafka_writer import WriterOptions
from stream.producer import Producer, make_batch, make_event
from stream.validation import Place, validate
from stream.validity import FAR_FUTURE_MS, event_refusal, item_refusal
from tests.stream.fake_writer import N_PARTITIONS, FakeWriter

NOW_MS = 1_700_000_000_000


@pytest.fixture
def writer():
    return FakeWriter()


@pytest.fixture
def producer(writer):
    return Producer(writer)


def test_a_receipt_says_where_the_record_stands(producer):
    first = producer.publish("user", item_id="50", action="click")
    second = producer.publish("user", item_id="51", action="click")

    assert (first.tenant, first.user_id) == ("default", "user")
    assert first.partition == user_partition("default", "user", N_PARTITIONS)
    assert (first.offset, second.offset) == (0, 1)


def test_a_record_is_keyed_by_its_user(producer, writer):
    producer.publish("a/b", item_id="50", action="click", tenant="shop")

    assert writer.log[0].topic == "rec.events"
    assert writer.log[0].key == b"shop/a%2Fb"
    assert writer.log[0].batch.user_id == "a/b"


def test_an_event_gets_a_name_and_a_time(producer, writer):
    before_ms = time.time() * 1000 - 1

    producer.publish("user", item_id="50", action="click")
    producer.publish("user", item_id="50", action="click")

    first, second = writer.events()
    assert first.event_id
    assert first.event_id != second.event_id
    assert before_ms < first.event_time_ms <= time.time() * 1000


def test_names_and_times_of_the_caller_are_kept(producer, writer):
    producer.publish(
        "user", item_id="50", action="click", event_id="mine", event_time_ms=5, value=2
    )

    assert writer.events() == [
        Event(item_id="50", action="click", event_id="mine", event_time_ms=5, value=2)
    ]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"item_id": "", "action": "click"}, "item_id is empty"),
        ({"item_id": "x" * 257, "action": "click"}, "item_id has more than 256 bytes"),
        ({"item_id": 50, "action": "click"}, "item_id=50 does not fit"),
        ({"item_id": "\ud800", "action": "click"}, "does not fit"),
        ({"item_id": "50", "action": "clik"}, "did you mean 'click'"),
        ({"item_id": "50", "action": ""}, "declared are"),
        ({"item_id": "50", "action": "click", "event_time_ms": -1}, "not after 1970"),
        ({"item_id": "50", "action": "click", "event_time_ms": 4 * 10**12}, "24 h in the future"),
        ({"item_id": "50", "action": "click", "value": math.nan}, "finite"),
        ({"item_id": "50", "action": "click", "session_id": "x" * 300}, "session_id has more than"),
        ({"item_id": "50", "action": "click", "properties": {"a": "x" * 20_000}}, "16,384"),
    ],
)
def test_an_event_that_cannot_be_applied_is_refused_with_what_to_change(
    producer, writer, fields, complaint
):
    with pytest.raises(InvalidInput, match=complaint):
        producer.publish("user", **fields)

    assert writer.log == []


@pytest.mark.parametrize(
    ("user_id", "tenant"), [("", ""), ("x" * 300, ""), (7, ""), ("u", "Shop!")]
)
def test_a_user_that_cannot_be_keyed_is_refused(producer, writer, user_id, tenant):
    with pytest.raises(InvalidInput):
        producer.publish(user_id, item_id="50", action="click", tenant=tenant)

    assert writer.log == []


def test_a_batch_is_one_record_in_the_order_given(producer, writer):
    events = [make_event(item_id=str(n), action="view") for n in range(3)]

    producer.publish_batch("user", events)

    assert len(writer.log) == 1
    assert [event.item_id for event in writer.events()] == ["0", "1", "2"]
    assert [event.event_id for event in events] == ["", "", ""]  # the caller's stay as they were


def test_a_bad_event_of_a_batch_is_named_by_its_place_and_nothing_is_sent(producer, writer):
    events = [make_event(item_id="1", action="view"), make_event(item_id="2", action="peek")]

    with pytest.raises(InvalidInput, match=r"event 1: action 'peek'"):
        producer.publish_batch("user", events)

    assert writer.log == []


@pytest.mark.parametrize("n_events", [0, 1001])
def test_a_batch_holds_one_to_a_thousand_events(producer, n_events):
    with pytest.raises(InvalidInput, match="1 to 1,000"):
        producer.publish_batch("user", [make_event(item_id="1", action="view")] * n_events)


def test_a_batch_that_kafka_would_not_take_is_refused(producer):
    event = make_event(item_id="1", action="view", properties={"note": "x" * 10_000})

    with pytest.raises(InvalidInput, match="smaller groups"):
        producer.publish_batch("user", [event] * 200)


def test_erasure_is_a_record_without_events(producer, writer):
    receipt = producer.erase("user", reason="asked")

    batch = writer.log[0].batch
    assert batch.HasField("erase")
    assert batch.erase.reason == "asked"
    assert batch.erase.requested_at_ms > 0
    assert not batch.events
    assert receipt.offset == 0


def test_silence_of_kafka_ends_at_the_deadline():
    producer = Producer(FakeWriter(is_silent=True))
    start = time.monotonic()

    with pytest.raises(DependencyDown, match=r"within 0.2 s.*event_id"):
        producer.publish("user", item_id="50", action="click", timeout_s=0.2)

    assert time.monotonic() - start < 1


def test_a_failed_record_is_repeated_as_it_was(producer, writer):
    writer.failures.append(DependencyDown("a broker fell"))

    receipt = producer.publish("user", item_id="50", action="click")

    first, second = writer.log
    assert first.value == second.value  # the same event_id: the stream applies it once
    assert receipt.offset == 0


def test_a_full_buffer_is_told_with_when_to_come_again():
    producer = Producer(FakeWriter(is_silent=True, room=1))
    producer.publish_nowait("user", item_id="50", action="click")

    with pytest.raises(Overloaded) as caught:
        producer.publish("user", item_id="51", action="click", timeout_s=0.3)

    assert caught.value.retry_after_s > 0


def test_handing_over_waits_for_room_no_longer_than_the_options_say(writer):
    producer = Producer(writer, options=WriterOptions(timeout_s=3))

    producer.publish_nowait("user", item_id="50", action="click")

    assert writer.log[0].wait_s == 3


def test_a_delivery_report_comes_later():
    writer = FakeWriter(is_silent=True)
    producer = Producer(writer)
    reported = []

    delivery = producer.publish_nowait("user", item_id="50", action="click")
    delivery.add_done_callback(lambda done: reported.append(done.result().offset))
    assert not delivery.cancel()
    assert reported == []
    producer.flush()

    assert reported == [0]


def test_a_delivery_report_tells_a_failure(writer):
    writer.failures.append(DependencyDown("gone"))

    delivery = Producer(writer).publish_nowait("user", item_id="50", action="click")

    assert isinstance(delivery.exception(timeout=1), DependencyDown)


async def test_coroutines_can_wait_for_a_delivery(producer):
    delivery = producer.publish_nowait("user", item_id="50", action="click")

    receipt = await asyncio.wrap_future(delivery)

    assert receipt.offset == 0


def test_a_lent_writer_stays_open(writer):
    with Producer(writer):
        pass

    assert not writer.is_closed


def test_items_are_keyed_by_item_and_carry_their_tenant(writer):
    n_items = ItemPublisher(writer).upsert([Item(item_id="a/b", title="A")], tenant="shop")

    record = writer.log[0]
    assert n_items == 1
    assert (record.topic, record.key) == ("rec.items", compose_key("shop", "a/b"))
    assert Item.FromString(record.value) == Item(tenant="shop", item_id="a/b", title="A")


def test_deleting_an_item_is_a_tombstone(writer):
    ItemPublisher(writer).delete(["50"])

    assert (writer.log[0].key, writer.log[0].value) == (b"default/50", None)


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (Item(title="A"), "item_id is empty"),
        (Item(item_id="1", tenant="other"), "leave the item's empty"),
        (Item(item_id="1", created_at_ms=-1), "created_at_ms is negative"),
        (Item(item_id="1", popularity=math.inf), "popularity"),
        (
            Item(item_id="1", attributes={"price": AttributeValue(number=math.nan)}),
            "attribute 'price' is nan",
        ),
        (Item(item_id="1", text="x" * 300_000), "262,144"),
    ],
)
def test_an_item_that_cannot_be_kept_is_refused(writer, item, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        ItemPublisher(writer).upsert([item])

    assert complaint in item_refusal(item, "default")
    assert writer.log == []


ids = st.text(max_size=300)
events = st.builds(
    Event,
    event_id=ids,
    item_id=ids,
    action=st.sampled_from([*declared_actions(), "", "peek"]),
    event_time_ms=st.integers(-1, 2) | st.integers(NOW_MS, NOW_MS + 2 * FAR_FUTURE_MS),
)


@given(events)
def test_what_producers_let_through_the_worker_applies(event):
    value = make_batch("default", "user", [event]).SerializeToString()
    place = Place("rec.events", partition=0, offset=0, timestamp_ms=NOW_MS)

    is_refused = bool(event_refusal(event, NOW_MS))
    is_rejected = bool(validate(value, place, declared_actions().get).rejected)

    assert is_refused == is_rejected
