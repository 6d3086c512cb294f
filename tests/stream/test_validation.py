import pytest
from google.protobuf import json_format

from protos.actions import declared_actions
from protos.keys import event_hash, short_item_hash
from protos.rec.v1.events_pb2 import Erasure, Event, EventBatch
from stream.validation import FAR_FUTURE_MS, Place, Rejected, Validated, validate

NOW_MS = 1_700_000_000_000
PLACE = Place("rec.events", partition=3, offset=1234, timestamp_ms=NOW_MS)


def event(**fields) -> Event:
    return Event(**{"item_id": "i1", "action": "click", "event_time_ms": NOW_MS} | fields)


def check(*events, **fields) -> Validated:
    batch = EventBatch(**{"user_id": "ann"} | fields, events=events)
    return validate(batch.SerializeToString(), PLACE, declared_actions().get)


def test_good_event_becomes_what_the_fold_wants():
    said = check(event(event_id="e1"))

    (fold_event,) = said.events
    assert (said.tenant, said.user_key) == ("default", b"default/ann")
    assert (fold_event.event_id, fold_event.event_hash) == ("e1", event_hash("e1"))
    assert fold_event.item_hash == short_item_hash("default", "i1")
    assert fold_event.action == declared_actions()["click"].code
    assert said.rejected == ()


def test_event_without_event_id_is_named_after_its_record():
    said = check(event(event_id="e1"), event())

    assert said.events[1].event_id == "3-1234-1"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"item_id": ""}, "missing_item_id"),
        ({"item_id": "x" * 257}, "item_id_too_long"),
        ({"item_id": "\u20ac" * 86}, "item_id_too_long"),  # 258 bytes
        ({"event_id": "x" * 257}, "event_id_too_long"),
        ({"action": ""}, "missing_action"),
        ({"action": "stare"}, "undeclared_action"),
        ({"event_time_ms": 0}, "missing_event_time"),
        ({"event_time_ms": -5}, "missing_event_time"),
        ({"event_time_ms": NOW_MS + FAR_FUTURE_MS + 1}, "far_future"),
    ],
)
def test_bad_event_is_refused_alone_and_its_siblings_apply(bad, reason):
    said = check(event(event_id="a"), event(**bad), event(event_id="c"))

    assert [(r.reason, r.index) for r in said.rejected] == [(reason, 1)]
    assert [e.event_id for e in said.events] == ["a", "c"]


@pytest.mark.parametrize(
    "fields",
    [
        {"item_id": "x" * 256},
        {"item_id": "\u20ac" * 85},  # 255 bytes
        {"event_time_ms": NOW_MS + FAR_FUTURE_MS},
        {"event_time_ms": 1},
    ],
)
def test_event_at_the_edge_is_good(fields):
    assert check(event(**fields)).rejected == ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty_value"),
        (b"", "empty_value"),
        (b"\xff\xff\xff", "garbage"),
        (EventBatch(events=[event()]).SerializeToString(), "missing_user_id"),
        (EventBatch(user_id="x" * 257, events=[event()]).SerializeToString(), "user_id_too_long"),
        (EventBatch(user_id="a", tenant="NO", events=[event()]).SerializeToString(), "bad_tenant"),
    ],
)
def test_record_that_names_no_user_is_one_dead_letter(value, reason):
    said = validate(value, PLACE, declared_actions().get)

    assert said.batch is None
    assert [(r.reason, r.index) for r in said.rejected] == [(reason, None)]


def read_json(value: bytes, content_type=b"application/json; charset=utf-8") -> Validated:
    headers = [("trace", b"x"), ("Content-Type", content_type)]
    return validate(value, PLACE, declared_actions().get, headers)


def test_json_says_the_same_as_protobuf():
    batch = EventBatch(user_id="ann", events=[event(event_id="e1", value=4.5), event(item_id="")])

    said = read_json(json_format.MessageToJson(batch).encode())

    assert said == validate(batch.SerializeToString(), PLACE, declared_actions().get)


def test_json_may_have_snake_case_and_plain_numbers():
    said = read_json(
        b'{"user_id": "ann", "events": [{"event_id": "e1", "item_id": "i1",'
        b' "action": "click", "event_time_ms": 1700000000000}]}'
    )

    assert said == check(event(event_id="e1"))


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"[1]",
        b"null",
        b"\xff{}",
        b'{"user_id": "ann", "evnets": []}',
        b'{"user_id": 5}',
        b'{"user_id": "ann", "events": [{"event_time_ms": 1e30}]}',
        b'{"user_id": "\\ud800"}',
        b"[" * 5000,
        b'{"a":' * 5000,
    ],
)
def test_json_that_is_no_batch_is_one_dead_letter(value):
    (rejected,) = read_json(value).rejected

    assert (rejected.reason, rejected.index) == ("garbage", None)
    assert "in JSON" in rejected.detail


def test_another_content_type_is_refused_by_name():
    (rejected,) = read_json(b"<xml/>", b"text/xml\xff").rejected

    assert rejected.reason == "unknown_content_type"
    assert "text/xml" in rejected.detail


def test_protobuf_may_be_said_to_be_protobuf():
    value = EventBatch(user_id="ann", events=[event()]).SerializeToString()

    assert read_json(value, b"application/x-protobuf").rejected == ()


def test_erasure_with_events_is_refused_whole_but_still_belongs_to_its_user():
    said = check(event(), erase=Erasure(reason="asked for"))

    assert [r.reason for r in said.rejected] == ["erase_with_events"]
    assert (said.user_key, said.is_erasure, said.events) == (b"default/ann", False, ())


def test_erasure_alone_is_an_erasure():
    said = check(erase=Erasure())

    assert (said.is_erasure, said.rejected) == (True, ())


def test_record_without_events_is_a_dead_letter_of_its_user():
    said = check()

    assert (said.user_key, said.rejected[0].reason) == (b"default/ann", "no_events")


def test_impressions_are_counted_and_not_folded():
    said = check(event(action="impression"), event())

    assert (said.n_impressions, len(said.events), said.rejected) == (1, 1, ())


def test_what_is_refused_depends_on_the_record_alone():
    later = Place("rec.events", 3, 1234, NOW_MS + 1)
    value = EventBatch(user_id="a", events=[event(event_time_ms=NOW_MS + FAR_FUTURE_MS + 1)])

    said = validate(value.SerializeToString(), later, declared_actions().get)

    assert said.rejected == ()


def test_rejection_says_what_is_wrong():
    (rejected,) = check(event(action="stare")).rejected

    assert isinstance(rejected, Rejected)
    assert "'stare' is not declared" in rejected.detail
