from collections import deque

import pytest

from infra.kafka_topics import Topics
from protos.errors import DependencyDown, InvalidInput
from protos.rec.v1.events_pb2 import Erasure, Event, EventBatch, Origin
from stream.dead_letters import DeadLetter
from stream.redrive import redrive, revive
from tests.stream.fake_writer import FakeWriter

HEADERS = {
    "reason": "undeclared_action",
    "source_topic": "rec.events",
    "source_partition": "3",
    "source_offset": "17",
    "source_timestamp_ms": "5000",
    "event_index": "2",
}


def letter(batch: EventBatch | bytes, offset=0, **headers) -> DeadLetter:
    value = batch if isinstance(batch, bytes) else batch.SerializeToString()
    return DeadLetter(1, offset, 6000, b"default/ann", value, HEADERS | headers)


def batch(**fields) -> EventBatch:
    return EventBatch(user_id="ann", events=[Event(item_id="i", action="new", **fields)])


def test_an_event_is_named_after_where_it_first_stood():
    revived = revive(letter(batch()))

    assert revived.events[0].event_id == "3-17-2"
    assert (revived.origin.topic, revived.origin.partition) == ("rec.events", 3)
    assert (revived.origin.offset, revived.origin.timestamp_ms) == (17, 5000)


def test_events_of_a_whole_record_are_named_by_their_places():
    whole = EventBatch(user_id="ann", events=[Event(), Event(event_id="mine"), Event()])

    revived = revive(letter(whole, event_index=""))

    assert [event.event_id for event in revived.events] == ["3-17-0", "mine", "3-17-2"]


def test_what_was_published_again_before_keeps_its_first_origin():
    moved = batch()
    moved.origin.CopyFrom(Origin(topic="rec.events", partition=9, offset=1))

    assert revive(letter(moved)).origin.partition == 9


def test_json_letters_are_read_as_json():
    value = b'{"user_id": "ann", "events": [{"item_id": "i"}]}'

    revived = revive(letter(value, **{"content-type": "application/json"}))

    assert revived.events[0].item_id == "i"


def test_an_erasure_stays_one():
    assert revive(letter(EventBatch(user_id="ann", erase=Erasure()))).HasField("erase")


@pytest.mark.parametrize(
    ("value", "headers", "words"),
    [
        (b"\xff\xff", {}, "no EventBatch"),
        (EventBatch(events=[Event()]), {}, "user_id"),
        (batch(), {"source_offset": "x"}, "where it comes from"),
    ],
)
def test_what_names_no_user_or_no_place_cannot_be_sent(value, headers, words):
    with pytest.raises(InvalidInput, match=words):
        revive(letter(value, **headers))


def test_each_letter_is_sent_to_its_user_and_noted_once_it_is_durable():
    writer = FakeWriter()
    letters = [letter(batch(), offset) for offset in range(3)] + [letter(b"\xff", 3)]

    fates = list(redrive(letters, writer, Topics("rec"), timeout_s=5))

    assert sorted((fate.letter.offset, bool(fate.problem)) for fate in fates) == [
        (0, False),
        (1, False),
        (2, False),
        (3, True),
    ]
    sent = [(record.topic, record.key) for record in writer.log]
    assert sent == [("rec.events", b"default/ann")] * 3 + [
        ("rec.events.dlq", b"redriven/1:%d" % offset) for offset in range(3)
    ]


def test_a_letter_that_kafka_did_not_take_is_not_noted():
    writer = FakeWriter(failures=deque([DependencyDown("down")]))

    with pytest.raises(DependencyDown):
        list(redrive([letter(batch())], writer, Topics("rec"), timeout_s=5))

    assert [record.topic for record in writer.log] == ["rec.events"]
