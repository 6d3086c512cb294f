"""What this replica knows of users: follows rec.interests and rec.seen, keeps the newest of each.

A user's states are ordered by (encoded_offset, model_sequence, tier), and the cache only moves
forward in that order (applied_offset decides between equals). So nothing that comes late or twice
changes anything, and a restart may repeat what it likes.

Kept beside the newest state, as a fallback: the last good vectors of the version before, for the
time in which a new model's items are not yet in Milvus, or when new vectors cannot be read.

rec.seen and rec.interests are two topics, so the state that says "segment 7 is closed" may come
before the hashes of segment 7. Until they do, the hashes of what was the open segment stand in for
them (a provisional row, offset -1), and with the newest R items nothing seen comes back meanwhile.

An erased user keeps the marker and the offset of the erasure; hashes from before it are refused.
"""

import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog
from google.protobuf.message import DecodeError

from infra.kafka_follower import Record
from infra.lru import Lru
from protos.errors import InvalidInput
from protos.keys import checked_id, checked_tenant, compose_key, split_key
from protos.rec.v1.interests_pb2 import Interests, SeenSegment, UserInterests
from protos.vectors import Floats, interest_matrix
from retrieval.measures import LAG_SECONDS, REFUSED_RECORDS, STALE_RECORDS
from retrieval.seen import LastSeen
from retrieval.store import ERASURES, FALLBACKS, SEEN, USERS, Batch, Store, put_offsets

log = structlog.get_logger(__name__)

PROVISIONAL = -1

OnChange = Callable[[set[bytes]], None]
"""Told the keys of users whose feed may look different now; on a follower's thread."""


@dataclass(frozen=True, slots=True)
class Known:
    """One user as this replica knows them. Read-only, shared between requests."""

    state: UserInterests
    matrix: Floats | None  # (K, D)
    """None while the user has no interests, or none that can be read."""
    fallback: Interests | None = None

    @classmethod
    def of(cls, state: UserInterests, fallback: Interests | None = None) -> "Known":
        """Raises InvalidInput when its vectors cannot be read."""
        matrix = interest_matrix(state.interests) if state.HasField("interests") else None
        return cls(state, matrix, fallback)

    @property
    def order(self) -> tuple[int, int, int, int]:
        return _order(self.state)


def user_key(tenant: str, user_id: str) -> bytes:
    """Return the key of a user in the store: sorts as the ids do (a tenant has no "/")."""
    return f"{tenant}/{user_id}".encode()


class UserCache:
    def __init__(self, store: Store, *, max_bytes: int, on_change: OnChange) -> None:
        self._store, self._on_change = store, on_change
        self.users: Lru[bytes, Known] = Lru(max_bytes * 3 // 4)
        self.closed: Lru[bytes, tuple[int, LastSeen]] = Lru(max_bytes // 4)
        # One batch at a time: both topics write rows of seen items.
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._generation = 0

    def get(self, tenant: str, user_id: str) -> Known | None:
        """Return the newest state of a user, or None for one nobody knows."""
        key = user_key(tenant, user_id)
        found = self.users.get(key)
        if found is not None:
            return found
        raw = self._store.get(USERS, key)
        if raw is None:
            return None
        known = _known(raw, self._store.get(FALLBACKS, key))
        return self.users.put_if_absent(key, known, _cost(known))

    def closed_seen(self, known: Known) -> LastSeen:
        """Return the items of the user's closed segments."""
        key = user_key(known.state.tenant, known.state.user_id)
        n_closed = known.state.n_closed_segments
        found = self.closed.get(key)
        if found is not None and found[0] == n_closed:
            return found[1]
        generation = self._generation
        rows = (SeenSegment.FromString(raw) for _, raw in _seen_rows(self._store, key, n_closed))
        closed = LastSeen.of_closed(rows)
        with self._lock:
            if generation == self._generation:
                self.closed.put(key, (n_closed, closed), closed.n_bytes)
        return closed

    def scan(self, tenant: str, prefix: str, after: str) -> Iterator[UserInterests]:
        """Yield users whose id begins with `prefix`, in the order of the ids, those behind
        `after`."""
        start = user_key(tenant, after) + b"\0" if after else b""
        for _, raw in self._store.scan(USERS, user_key(tenant, prefix), start):
            yield UserInterests.FromString(raw)

    def apply_interests(self, topic: str, records: Sequence[Record]) -> None:
        """Take a batch of rec.interests. Called on that topic's follower thread only."""
        with self._writing:
            batch, news = self._store.batch(), dict[bytes, Known]()
            for record in records:
                self._take(batch, topic, record, news)
            self._commit(batch, topic, records)
            for key, known in news.items():
                self.users.put(key, known, _cost(known))
        self._on_change(set(news))

    def apply_seen(self, topic: str, records: Sequence[Record]) -> None:
        """Take a batch of rec.seen. Called on that topic's follower thread only."""
        with self._writing:
            batch, changed = self._store.batch(), set[bytes]()
            for record in records:
                try:
                    key, row, segment = _parse_segment(record)
                except InvalidInput as error:
                    _refuse(topic, "segment", record, error)
                    continue
                if segment is None:
                    batch.delete(SEEN, row)
                elif segment.offset > _erased_at(batch, key):
                    batch.put(SEEN, row, segment.SerializeToString())
                changed.add(key)
            self._commit(batch, topic, records)
            self._forget_closed(changed)

    def _take(self, batch: Batch, topic: str, record: Record, news: dict[bytes, Known]) -> None:
        try:
            state = _parse_state(record)
        except InvalidInput as error:
            _refuse(topic, "state", record, error)
            return
        key = user_key(state.tenant, state.user_id)
        before = news.get(key) or self.get(state.tenant, state.user_id)
        if before is not None and _order(state) <= before.order:
            STALE_RECORDS.inc()
            return
        news[key] = self._advance(batch, topic, record, state, before)

    def _advance(
        self,
        batch: Batch,
        topic: str,
        record: Record,
        state: UserInterests,
        before: Known | None,
    ) -> Known:
        key = user_key(state.tenant, state.user_id)
        if state.erased:
            return self._erase(batch, key, state)
        state.hops.add(name="received", at_us=time.time_ns() // 1000)
        matrix = None
        if state.HasField("interests"):
            try:
                matrix = interest_matrix(state.interests)
            except InvalidInput as error:
                _refuse(topic, "vectors", record, error)
                state.ClearField("interests")
        fallback = _fallback(before, state)
        if fallback is not None:
            batch.put(FALLBACKS, key, fallback.SerializeToString())
        if before is not None:
            self._bridge(batch, key, before.state, state)
        batch.put(USERS, key, state.SerializeToString())
        return Known(state, matrix, fallback)

    def _erase(self, batch: Batch, key: bytes, state: UserInterests) -> Known:
        marker = UserInterests(
            tenant=state.tenant,
            user_id=state.user_id,
            partition=state.partition,
            applied_offset=state.applied_offset,
            encoded_offset=state.encoded_offset,
            erased=True,
        )
        for row, _ in _seen_rows(self._store, key):
            batch.delete(SEEN, row)
        batch.delete(FALLBACKS, key)
        batch.put(ERASURES, key, struct.pack("<q", state.applied_offset))
        batch.put(USERS, key, marker.SerializeToString())
        self._forget_closed({key})
        return Known(marker, None)

    def _bridge(self, batch: Batch, key: bytes, old: UserInterests, new: UserInterests) -> None:
        """Let the old open segment stand in for its closed self until rec.seen brings that."""
        row = _seen_row(key, old.n_closed_segments)
        if new.n_closed_segments <= old.n_closed_segments or batch.get(SEEN, row) is not None:
            return
        segment = SeenSegment(
            tenant=old.tenant,
            user_id=old.user_id,
            segment_index=old.n_closed_segments,
            item_hashes=old.open_segment_hashes,
            last_event_time_ms=new.recent[-1].event_time_ms if new.recent else 0,
            offset=PROVISIONAL,
        )
        batch.put(SEEN, row, segment.SerializeToString())

    def _commit(self, batch: Batch, topic: str, records: Sequence[Record]) -> None:
        offsets = self._store.next_offsets(topic)
        for record in records:
            offsets[record.partition] = record.offset + 1
        put_offsets(batch, topic, offsets)
        batch.write()
        if records:
            LAG_SECONDS.labels(topic).set(max(0.0, time.time() - records[-1].timestamp_ms / 1000))

    def _forget_closed(self, keys: set[bytes]) -> None:
        with self._lock:
            self._generation += 1
            for key in keys:
                self.closed.drop(key)


def _parse_state(record: Record) -> UserInterests:
    """Raises InvalidInput for what is no state of the user that the key names."""
    try:
        state = UserInterests.FromString(record.value or b"")
    except DecodeError as error:
        raise InvalidInput("the value is no UserInterests") from error
    state.tenant = checked_tenant(state.tenant)
    checked_id(state.user_id, "user_id")
    if record.key != compose_key(state.tenant, state.user_id):
        raise InvalidInput("the key names another user than the value")
    return state


def _parse_segment(record: Record) -> tuple[bytes, bytes, SeenSegment | None]:
    """Return the user's key, the row, and the segment (None: deleted). Raises InvalidInput."""
    parts = split_key(record.key)
    if len(parts) != 3 or not parts[2].isdecimal() or int(parts[2]) >= 2**32:
        raise InvalidInput("the key is not tenant/user/segment")
    key = user_key(checked_tenant(parts[0]), checked_id(parts[1], "user_id"))
    row = _seen_row(key, int(parts[2]))
    if record.value is None:
        return key, row, None
    try:
        segment = SeenSegment.FromString(record.value)
    except DecodeError as error:
        raise InvalidInput("the value is no SeenSegment") from error
    if user_key(checked_tenant(segment.tenant), segment.user_id) != key:
        raise InvalidInput("the key names another user than the value")
    if len(segment.item_hashes) % 4:
        raise InvalidInput("item_hashes is not a whole number of u32")
    return key, row, segment


def _refuse(topic: str, what: str, record: Record, error: InvalidInput) -> None:
    REFUSED_RECORDS.labels(topic, what).inc()
    log.warning(
        "record_refused",
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        what=what,
        message=str(error),
    )


def _order(state: UserInterests) -> tuple[int, int, int, int]:
    interests = state.interests
    return (
        state.encoded_offset,
        interests.model_sequence,
        interests.tier,
        state.applied_offset,
    )


def _fallback(before: Known | None, state: UserInterests) -> Interests | None:
    """Return the vectors to use should those of `state` turn out to be of no use."""
    if before is None:
        return None
    old, new = before.state, state
    if not old.HasField("interests"):
        return before.fallback
    if new.HasField("interests") and new.interests.model_version == old.interests.model_version:
        return before.fallback
    return old.interests


def _known(raw: bytes, fallback: bytes | None) -> Known:
    return Known.of(
        UserInterests.FromString(raw), Interests.FromString(fallback) if fallback else None
    )


def _cost(known: Known) -> int:
    """Estimate the memory of an entry: messages in memory take about four times their bytes."""
    n_bytes = known.state.ByteSize() * 4 + 500
    return n_bytes + (known.matrix.nbytes if known.matrix is not None else 0)


def _seen_row(key: bytes, segment_index: int) -> bytes:
    return key + b"\0" + struct.pack(">I", segment_index)


def _seen_rows(store: Store, key: bytes, n_closed: int = 2**32) -> Iterator[tuple[bytes, bytes]]:
    """Yield the user's rows with an index below `n_closed`."""
    for row, raw in store.scan(SEEN, key + b"\0"):
        # An id may hold a NUL, so another user's rows may begin alike; they are longer.
        if len(row) == len(key) + 5 and struct.unpack(">I", row[-4:])[0] < n_closed:
            yield row, raw


def _erased_at(batch: Batch, key: bytes) -> int:
    raw = batch.get(ERASURES, key)
    return struct.unpack("<q", raw)[0] if raw is not None else -1
