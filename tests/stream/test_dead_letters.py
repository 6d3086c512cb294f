from collections import namedtuple

import pytest

from infra.kafka_log import KafkaLog
from protos.errors import InvalidInput
from protos.rec.v1.events_pb2 import Event, EventBatch
from stream.dead_letter_commands import _lines, _parsed
from stream.dead_letters import DeadLetterReader
from tests.infra.fake_consumer import FakeConsumer

TOPIC = "rec.events.dlq"
Record = namedtuple("Record", "partition offset timestamp key value headers")


def record(partition, offset, timestamp, value=b"\xff\xfe", **headers):
    encoded = [(name, text.encode()) for name, text in headers.items()]
    return Record(partition, offset, timestamp, b"default/user", value, encoded)


def reader(**partitions):
    by_number = {int(name[1:]): records for name, records in partitions.items()}
    return DeadLetterReader(KafkaLog(FakeConsumer(TOPIC, by_number), TOPIC))


def test_the_newest_of_all_partitions_come_first():
    letters = reader(
        p0=[record(0, offset, 10 * offset) for offset in range(5)],
        p1=[record(1, 7, 35)],
        p2=[],
    ).newest(3)

    assert [letter.place for letter in letters] == ["0:4", "1:7", "0:3"]


def test_an_empty_topic_has_no_letters():
    assert reader(p0=[]).newest(10) == []


def test_one_letter_is_found_by_its_place():
    letter = reader(p0=[record(0, 3, 10, reason="garbage"), record(0, 4, 20)]).one(0, 3)

    assert (letter.place, letter.header("reason"), letter.key) == (
        "0:3",
        "garbage",
        b"default/user",
    )


@pytest.mark.parametrize(
    ("partition", "offset", "complaint"),
    [
        (0, 9, "holds 3 to 4"),
        (0, 2, "holds 3 to 4"),
        (1, 0, "is empty"),
        (5, 0, "partitions 0 to 1"),
    ],
)
def test_a_place_without_a_letter_is_told_with_what_there_is(partition, offset, complaint):
    letters = reader(p0=[record(0, 3, 10), record(0, 4, 20)], p1=[])

    with pytest.raises(InvalidInput, match=complaint):
        letters.one(partition, offset)


def test_a_letter_shows_the_event_that_was_refused():
    batch = EventBatch(user_id="user", events=[Event(item_id="50", action="peek")])
    headers = {
        "reason": "undeclared_action",
        "source_topic": "rec.events",
        "source_partition": "2",
        "source_offset": "17",
        "event_index": "0",
    }
    letter = reader(p0=[record(0, 0, 10, batch.SerializeToString(), **headers)]).one(0, 0)

    shown = letter.record()

    assert shown["batch"] == {"user_id": "user", "events": [{"item_id": "50", "action": "peek"}]}
    assert shown["reason"] == "undeclared_action"
    assert letter.source() == "rec.events 2:17 event 0"
    assert bytes.fromhex(shown["value_hex"]) == batch.SerializeToString()


def test_garbage_is_shown_as_bytes():
    letter = reader(p0=[record(0, 0, 10, b"\xff\xfe", source_topic="t")]).one(0, 0)

    assert letter.batch() is None
    assert letter.record()["value_hex"] == "fffe"
    assert dict(_lines(letter))["value"] == "2 bytes, no EventBatch: ff fe"


@pytest.mark.parametrize("place", ["", "3", "a:b", "1:", ":2"])
def test_a_place_that_is_none_is_refused(place):
    with pytest.raises(InvalidInput, match="PARTITION:OFFSET"):
        _parsed(place)


def redrive_note(partition, offset, place):
    return Record(partition, offset, 99, b"redriven/" + place.encode(), b"", [])


def test_notes_of_redrives_are_no_letters_but_are_remembered():
    letters = [record(0, n, n, reason="garbage") for n in range(3)]
    notes = [redrive_note(0, n, f"0:{n - 3}") for n in range(3, 5)]
    topic = reader(p0=[*letters, *notes])

    assert [letter.offset for letter in topic.newest(2)] == [2, 1]
    assert [letter.offset for letter in topic.every()] == [0, 1, 2]
    assert topic.redriven() == {"0:0", "0:1"}
    with pytest.raises(InvalidInput, match="no letter; it says that 0:0 was redriven"):
        topic.one(0, 3)


def test_a_user_of_a_tenant_named_redriven_is_no_note():
    letter = Record(0, 0, 5, b"redriven/0:1", b"", [("reason", b"garbage")])

    assert reader(p0=[letter]).redriven() == set()
