"""From the bytes of one record of rec.events to what the fold wants, and what it refuses.

Pure, and a function of the record alone (its bytes, place and broker's timestamp), so that folding
the log again gives the same histories. The producer SDK checks too (stream/validity.py), but this
is the side that counts: records come from producers of any language.

One bad event goes to the dead letters alone, and its siblings apply. What cannot be read at all, or
names no user, goes there whole: there is nobody whose offsets it could move.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from protos.actions import Action, declared_actions
from protos.errors import InvalidInput
from protos.history import FoldEvent
from protos.keys import (
    MAX_ID_BYTES,
    checked_id,
    checked_tenant,
    compose_key,
    event_hash,
    short_item_hash,
)
from protos.rec.v1.events_pb2 import Event, EventBatch

FAR_FUTURE_MS = 24 * 3600 * 1000
SHORT_ID = MAX_ID_BYTES // 4
"""Characters. One has at most 4 bytes, so most ids need no encoding to be measured."""
CONTENT_TYPE = "content-type"
JSON_TYPE = b"application/json"
"""A value with this header is protobuf's JSON of an EventBatch; unknown fields are refused, since
they are misspelt ones."""
PROTOBUF_TYPES = (b"application/x-protobuf", b"application/protobuf")
"""Taken for granted without a header."""

Actions = Callable[[str], Action | None]
"""(name) -> the declared action, or None: `declared_actions().get`"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in the log, and when the broker wrote it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """One dead letter."""

    reason: str
    """snake_case, for programs"""
    detail: str
    index: int | None = None
    """Which event of the record; None: the record as a whole."""


@dataclass(frozen=True, slots=True)
class Validated:
    """What a record says. `batch` is None when it could not be read or names no user."""

    batch: EventBatch | None
    tenant: str = ""
    user_key: bytes = b""
    events: tuple[FoldEvent, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    n_impressions: int = 0
    is_erasure: bool = False

    @property
    def refused(self) -> set[int | None]:
        """Which events of the record are dead letters."""
        return {rejected.index for rejected in self.rejected}


class RefusedEvent(Exception):
    """An event cannot be applied."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def validate(
    value: bytes | None,
    place: Place,
    action_of: Actions,
    headers: Sequence[tuple[str, bytes]] = (),
) -> Validated:
    """Read one record. Never raises: what is wrong with it is in the answer."""
    try:
        batch = parse_batch(value, headers)
        tenant, user_key = _user(batch.tenant, batch.user_id)
    except RefusedEvent as error:
        return Validated(None, rejected=(Rejected(error.reason, error.detail),))
    if batch.HasField("erase"):
        return _validated_erasure(batch, tenant, user_key)
    if not batch.events:
        refusal = Rejected("no_events", "the record has neither events nor an erasure")
        return Validated(batch, tenant, user_key, rejected=(refusal,))
    events: list[FoldEvent] = []
    rejected: list[Rejected] = []
    n_impressions = 0
    for index, event in enumerate(batch.events):
        try:
            fold_event = _fold_event(event, action_of, tenant, place, index)
        except RefusedEvent as error:
            rejected.append(Rejected(error.reason, error.detail, index))
            continue
        if fold_event is None:
            n_impressions += 1
        else:
            events.append(fold_event)
    return Validated(batch, tenant, user_key, tuple(events), tuple(rejected), n_impressions)


def parse_batch(value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> EventBatch:
    """Read a record's value, whichever way it is written. Raises RefusedEvent."""
    if not value:
        raise RefusedEvent("empty_value", "the record has no value; send an EventBatch")
    content_type = next((v for name, v in headers if name.lower() == CONTENT_TYPE), None)
    if content_type is not None and not content_type.startswith(PROTOBUF_TYPES):
        if not content_type.startswith(JSON_TYPE):
            named = content_type[:40].decode(errors="backslashreplace")
            detail = f"content-type is {named}; send {JSON_TYPE.decode()} or protobuf"
            raise RefusedEvent("unknown_content_type", detail)
        return _parsed_json(value)
    try:
        return EventBatch.FromString(value)
    except DecodeError as error:
        raise RefusedEvent("garbage", f"the value is no EventBatch: {error}") from error


def _parsed_json(value: bytes) -> EventBatch:
    try:
        return json_format.Parse(value, EventBatch(), max_recursion_depth=8)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedEvent("garbage", f"the value is no EventBatch in JSON: {error}") from error


@lru_cache(65_536)
def _user(tenant: str, user_id: str) -> tuple[str, bytes]:
    """Return the tenant in full and the user's key. Raises RefusedEvent, which is not cached."""
    try:
        tenant = checked_tenant(tenant)
    except InvalidInput as error:
        raise RefusedEvent("bad_tenant", str(error)) from error
    if not user_id:
        raise RefusedEvent("missing_user_id", "user_id is empty")
    _check_id(user_id, "user_id")
    return tenant, compose_key(tenant, user_id)


def _validated_erasure(batch: EventBatch, tenant: str, user_key: bytes) -> Validated:
    if batch.events:
        detail = "a record either erases its user or has events; send two"
        return Validated(batch, tenant, user_key, rejected=(Rejected("erase_with_events", detail),))
    return Validated(batch, tenant, user_key, is_erasure=True)


def _fold_event(
    event: Event, action_of: Actions, tenant: str, place: Place, index: int
) -> FoldEvent | None:
    """Return None for an impression, which no history has."""
    action = action_of(event.action)
    if action is None:
        detail = f"action {event.action[:40]!r} is not declared in protos/actions.toml"
        raise RefusedEvent("undeclared_action" if event.action else "missing_action", detail)
    item_id, time_ms = event.item_id, event.event_time_ms
    if not item_id:
        raise RefusedEvent("missing_item_id", "item_id is empty")
    if len(item_id) > SHORT_ID:
        _check_id(item_id, "item_id")
    if time_ms <= 0:
        raise RefusedEvent("missing_event_time", f"event_time_ms is {time_ms}; it must be above 0")
    if time_ms > place.timestamp_ms + FAR_FUTURE_MS:
        ahead_h = (time_ms - place.timestamp_ms) / 3_600_000
        raise RefusedEvent("far_future", f"event_time_ms is {ahead_h:.1f} h after its record")
    event_id = event.event_id or name_event(place, index)
    if len(event_id) > SHORT_ID:
        _check_id(event_id, "event_id")
    if not action.history:
        return None
    hashes = event_hash(event_id), _item_hash(tenant, item_id)
    return FoldEvent(event_id, hashes[0], item_id, hashes[1], action.code, time_ms)


def events_by_name(said: Validated, place: Place, events: Iterable[Event]) -> dict[str, Event]:
    """Return the events of a record that a history may have, by event_id; of those that share one,
    the first counted."""
    refused, named = said.refused, dict[str, Event]()
    for index, event in enumerate(events):
        if index not in refused and declared_actions()[event.action].history:
            named.setdefault(event.event_id or name_event(place, index), event)
    return named


def name_event(place: Place, index: int) -> str:
    """Return the name of an event that came without one: where its record stands."""
    return f"{place.partition}-{place.offset}-{index}"


def _check_id(value: str, field: str) -> None:
    try:
        checked_id(value, field)
    except InvalidInput as error:
        raise RefusedEvent(f"{field}_too_long", str(error)) from error


_item_hash = lru_cache(65_536)(short_item_hash)
