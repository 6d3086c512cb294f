"""Long histories as bytes, and the fold that makes them from the log.

An event costs 11 bytes and a bit: Q = 4 residual codes (u8), 32 bits of the item's hash, an action
(u8) and a quantised time gap (u16). Not its embedding and not its id: histories outlive items. A
user is a small *head*, rewritten by every event, and *closed segments* of S events that never
change again, but for codes that were missing when the event came.

Everything but the codes is a function of rec.events alone, byte for byte; the codes are a function
of the item and the codebook. So the layout puts codes last: `segments.exact_part` cuts them off.

The layout of a segment stands in protos/segments.py. Head, little-endian:

    u8 format = 2 | u8 Q | u8 R | u16 S
    i64 watermark | u64 n_events | u64 n_late
    i64 last_event_time_ms | i64 last_accepted_ms | i64 erased_ms
    u16 length, bytes of the newest event_id
    u8 count, then each of the newest R items, oldest first:
        i64 event_time_ms | u8 action | u16 length | bytes of item_id
    u8 count, then the newest 64 event hashes (u64), oldest first
    the open segment                                          <- exact part ends inside it

The fold does no I/O and reads no clock. It changes the head in place (a head has one owner: the
worker of its partition), because copying 2 KB an event would cost more than the fold.
"""

import math
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from protos.segments import CodesOf, Segment, check_format

N_EVENT_HASHES = 64
MAX_GAP = 0xFFFF

HEAD_FORMAT = 2

_HEAD = struct.Struct("<BBBHqQQqqq")
_RECENT = struct.Struct("<qBH")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that heads are made with."""

    segment_size: int = 128  # S
    n_levels: int = 4  # Q
    recent_size: int = 32  # R


def quantise_gap(gap_ms: int) -> int:
    """Return round(2048 * log2(1 + seconds)) as u16; 0 for a negative gap."""
    if gap_ms <= 0:
        return 0
    return min(MAX_GAP, round(2048 * math.log2(1 + gap_ms / 1000)))


class Recent(NamedTuple):
    item_id: str
    event_time_ms: int
    action: int


@dataclass(slots=True)
class Head:
    """The part of a user that every event changes."""

    shape: Shape
    watermark: int = -1
    """Offset of the newest record applied; -1 before the first."""
    n_events: int = 0
    n_late: int = 0
    """Events that were older than one applied before them."""
    last_event_time_ms: int = 0
    """The greatest event time so far."""
    last_accepted_ms: int = 0
    """The broker's timestamp of the newest record that added an event."""
    last_event_id: str = ""
    erased_ms: int = 0
    """The broker's timestamp of the newest erasure; 0 when there was none. No event from before it
    ever counts again."""
    recent: deque[Recent] = field(default_factory=deque)
    event_hashes: deque[int] = field(default_factory=deque)
    open: Segment = field(default_factory=lambda: Segment(0))

    @classmethod
    def empty(cls, shape: Shape) -> "Head":
        return cls(shape, open=Segment(shape.n_levels))

    @property
    def erased(self) -> bool:
        """Whether nothing has come since the erasure."""
        return self.erased_ms > 0 and self.n_events == 0

    @property
    def n_closed(self) -> int:
        """Segments closed ever; their indices are 0 .. n_closed - 1."""
        return self.n_events // self.shape.segment_size

    def to_bytes(self) -> bytes:
        shape, event_id = self.shape, self.last_event_id.encode()
        parts = [
            _HEAD.pack(
                HEAD_FORMAT,
                shape.n_levels,
                shape.recent_size,
                shape.segment_size,
                self.watermark,
                self.n_events,
                self.n_late,
                self.last_event_time_ms,
                self.last_accepted_ms,
                self.erased_ms,
            ),
            struct.pack("<H", len(event_id)),
            event_id,
            bytes((len(self.recent),)),
        ]
        for recent in self.recent:
            item_id = recent.item_id.encode()
            parts += [_RECENT.pack(recent.event_time_ms, recent.action, len(item_id)), item_id]
        parts.append(bytes((len(self.event_hashes),)))
        parts.append(struct.pack(f"<{len(self.event_hashes)}Q", *self.event_hashes))
        parts.append(self.open.to_bytes())
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Head":
        """Raises VersionMismatch for another format and ValueError or struct.error for other
        bytes."""
        check_format("head", blob[0], HEAD_FORMAT)
        _, n_levels, recent_size, segment_size, *numbers, erased_ms = _HEAD.unpack_from(blob)
        head = cls(Shape(segment_size, n_levels, recent_size), *numbers)
        head.erased_ms = erased_ms
        (length,) = struct.unpack_from("<H", blob, _HEAD.size)
        at = _HEAD.size + 2
        head.last_event_id = blob[at : at + length].decode()
        at += length
        n_recent = blob[at]
        at += 1
        for _ in range(n_recent):
            time_ms, action, length = _RECENT.unpack_from(blob, at)
            at += _RECENT.size
            head.recent.append(Recent(blob[at : at + length].decode(), time_ms, action))
            at += length
        n_hashes = blob[at]
        head.event_hashes.extend(struct.unpack_from(f"<{n_hashes}Q", blob, at + 1))
        head.open = Segment.from_bytes(blob[at + 1 + 8 * n_hashes :])
        return head


class FoldEvent(NamedTuple):
    """A valid event, as the fold wants it (stream/validation.py makes them).

    Not a frozen dataclass: that takes four times as long to make.
    """

    event_id: str
    event_hash: int
    item_id: str
    item_hash: int
    """u32"""
    action: int
    event_time_ms: int


@dataclass(frozen=True, slots=True)
class Folded:
    """What one record did."""

    is_new: bool
    """False: the record had been applied before, and nothing changed."""
    applied: Sequence[FoldEvent] = ()
    n_duplicates: int = 0
    """Events whose event_id is among the user's newest 64."""
    n_erased: int = 0
    """Events from before the user's erasure, which came after it."""
    n_late: int = 0
    closed: Sequence[tuple[int, Segment]] = ()
    """Segments that the record closed, with their indices."""


ALREADY_APPLIED = Folded(is_new=False)


def fold(
    head: Head,
    events: Sequence[FoldEvent],
    *,
    offset: int,
    accepted_ms: int,
    codes_of: CodesOf,
    codebook_version: int,
) -> Folded:
    """Apply one record to its user's head, in place.

    Delivery is at least once: a record at or below the watermark changes nothing. A record without
    events (all of them refused, say) moves the watermark all the same, so a receipt always comes
    true.
    """
    if offset <= head.watermark:
        return ALREADY_APPLIED
    new, n_erased = _take_new(head, events)
    n_late, closed = _append(head, new, codes_of, codebook_version) if new else (0, ())
    head.watermark = offset
    if new:
        head.last_accepted_ms = accepted_ms
    head.n_late += n_late
    n_duplicates = len(events) - len(new) - n_erased
    return Folded(True, new, n_duplicates, n_erased, n_late, closed)


def _take_new(head: Head, events: Sequence[FoldEvent]) -> tuple[Sequence[FoldEvent], int]:
    """Return the events that count, whose hashes are now known, and how many came from before an
    erasure."""
    hashes, erased_ms = head.event_hashes, head.erased_ms
    known = set(hashes)
    coming = [event.event_hash for event in events]
    if not erased_ms and known.isdisjoint(coming) and len(set(coming)) == len(coming):
        hashes.extend(coming)  # no retry among them, as nearly always
        while len(hashes) > N_EVENT_HASHES:
            hashes.popleft()
        return events, 0
    new: list[FoldEvent] = []
    n_erased = 0
    for event in events:
        if event.event_time_ms <= erased_ms:
            n_erased += 1
        elif event.event_hash not in known:
            new.append(event)
            known.add(event.event_hash)
            hashes.append(event.event_hash)
            if len(hashes) > N_EVENT_HASHES:
                known.remove(hashes.popleft())
    return new, n_erased


def _append(
    head: Head, new: Sequence[FoldEvent], codes_of: CodesOf, codebook_version: int
) -> tuple[int, Sequence[tuple[int, Segment]]]:
    """Add events to the columns; return how many are late, and the segments that closed."""
    size, n_closed = head.shape.segment_size, head.n_closed
    newest_ms = head.last_event_time_ms if head.n_events else new[0].event_time_ms
    gaps: list[int] = []
    n_late = 0
    for event in new:
        time_ms = event.event_time_ms
        gaps.append(quantise_gap(time_ms - newest_ms))
        if time_ms < newest_ms:
            n_late += 1
        else:
            newest_ms = time_ms
    closed: list[tuple[int, Segment]] = []
    segment, begin = head.open, 0
    segment.use_codebook(codebook_version)
    while begin < len(new):
        end = begin + size - len(segment)
        part = new[begin:end]
        if not segment.actions:
            segment.first_event_time_ms = part[0].event_time_ms
            segment.use_codebook(codebook_version)
        hashes = [event.item_hash for event in part]
        actions = [event.action for event in part]
        segment.extend(hashes, actions, gaps[begin:end], [codes_of(one) for one in hashes])
        if len(segment) == size:
            closed.append((n_closed + len(closed), segment))
            segment = Segment(head.shape.n_levels)
        begin = end
    head.open = segment
    head.last_event_time_ms = newest_ms
    head.last_event_id = new[-1].event_id
    head.n_events += len(new)
    recent_size = head.shape.recent_size
    for event in new[-recent_size:]:
        head.recent.append(Recent(event.item_id, event.event_time_ms, event.action))
    while len(head.recent) > recent_size:
        head.recent.popleft()
    return n_late, closed


def erase(head: Head, *, offset: int, accepted_ms: int) -> bool:
    """Turn the head into an erased marker; False if already applied.

    It keeps its watermark, so that nothing is applied twice, and when it was erased, so that events
    from before (a phone that was offline, a dead letter sent again) do not bring the user back. The
    caller deletes what else is stored of the user: segments, blocks, what was published.
    """
    if offset <= head.watermark:
        return False
    blank = Head.empty(head.shape)
    for name in ("n_events", "n_late", "last_event_time_ms", "last_accepted_ms", "last_event_id"):
        setattr(head, name, getattr(blank, name))
    head.recent, head.event_hashes, head.open = blank.recent, blank.event_hashes, blank.open
    head.watermark, head.erased_ms = offset, max(head.erased_ms, accepted_ms)
    return True
