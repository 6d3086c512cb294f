"""What one event must be before it enters the log: the rules that SDK and gateway share.

Pure: nothing here reads a clock or a topic. A rule answers with a sentence that says what to
change, or "" for what is fine. The worker judges every record again (it trusts no producer); what
these rules let through it applies, unless the clocks of producer and broker are far apart.

An event_time_ms of 0 means "now", an empty event_id "name it for me": `fill_in` does both, where
the event is first accepted, so that sending the same bytes again is recognised as the same event.
"""

import difflib
import itertools
import math
import secrets

from protos.actions import declared_actions
from protos.errors import InvalidInput
from protos.keys import MAX_ID_BYTES, checked_id
from protos.rec.v1 import events_pb2, items_pb2
from stream.validation import FAR_FUTURE_MS

MAX_EVENTS = 1_000
"""Events in one record."""
MAX_ITEMS = 1_000
"""Items in one request."""
MAX_EVENT_BYTES = 16 * 1024
MAX_ITEM_BYTES = 256 * 1024
MAX_RECORD_BYTES = 1_000_000
"""Kafka's default message.max.bytes is 1,048,588 with the batch's own header."""

_TAGS = ("event_id", "session_id", "recommendation_id", "scenario", "variant")


class EventNames:
    """Names for events that come without one: 64 random bits of this object, and a number.

    A uuid an event would do as well, but costs as much as all checks together.
    """

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count()

    def __next__(self) -> str:
        return f"{self._prefix}-{next(self._numbers)}"


def fill_in(event: events_pb2.Event, now_ms: int, names: EventNames) -> None:
    """Give the event the time and the name that its producer left to us, in place."""
    if not event.event_time_ms:
        event.event_time_ms = now_ms
    if not event.event_id:
        event.event_id = next(names)


def event_refusal(event: events_pb2.Event, now_ms: int) -> str:
    """Return why an event cannot enter the log, "" when it can."""
    if event.action not in declared_actions():
        return _undeclared(event.action)
    if not 0 < event.event_time_ms <= now_ms + FAR_FUTURE_MS:
        return _wrong_time(event.event_time_ms)
    if not math.isfinite(event.value):
        return f"value is {event.value}; give a finite number, or none"
    if event.ByteSize() > MAX_ID_BYTES:  # then no single field needs a look
        for tag in _TAGS:
            if len(getattr(event, tag).encode()) > MAX_ID_BYTES:
                return f"{tag} has more than {MAX_ID_BYTES} bytes"
        if event.ByteSize() > MAX_EVENT_BYTES:
            return f"the event has {event.ByteSize():,} bytes, more than {MAX_EVENT_BYTES:,}"
    return _id_refusal(event.item_id, "item_id")


def item_refusal(item: items_pb2.Item, tenant: str) -> str:
    """Return why an item cannot enter the catalogue of a tenant, "" when it can."""
    if item.tenant not in ("", tenant):
        return (
            f"the item says tenant {item.tenant!r}, the request {tenant!r}; leave the item's empty"
        )
    if item.created_at_ms < 0:
        return "created_at_ms is negative; give milliseconds since 1970, or 0 when unknown"
    if not math.isfinite(item.popularity):
        return f"popularity is {item.popularity}; give a finite number, 0 when unknown"
    for name, value in item.attributes.items():
        if not math.isfinite(value.number):
            return f"attribute {name[:40]!r} is {value.number}; give a finite number, or none"
    if item.ByteSize() > MAX_ITEM_BYTES:
        return f"the item has {item.ByteSize():,} bytes, more than {MAX_ITEM_BYTES:,}; cut its text"
    return _id_refusal(item.item_id, "item_id")


def item_id_refusal(item_id: str) -> str:
    """Return why no item can have this id, "" when one can."""
    return _id_refusal(item_id, "item_id")


def _id_refusal(value: str, field: str) -> str:
    try:
        checked_id(value, field)
    except InvalidInput as error:
        return str(error)
    return ""


def _undeclared(action: str) -> str:
    known = list(declared_actions())
    near = difflib.get_close_matches(action, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"declared are {', '.join(known)}"
    return f"action {action[:40]!r} is not declared; {hint}"


def _wrong_time(event_time_ms: int) -> str:
    if event_time_ms <= 0:
        return "event_time_ms is not after 1970; give milliseconds since the epoch, or 0 for now"
    return (
        "event_time_ms is more than 24 h in the future; are these milliseconds, is the clock right?"
    )
