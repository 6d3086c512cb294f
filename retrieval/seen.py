"""Which items a user has seen: pure functions over hashes.

Three sources, newest knowledge last: closed segments (rec.seen; each item is dated by the last
event of its segment, so "seen N days ago" is never too young), the open segment (dated now: its
times are not published), and the newest R items, whose times are exact and override the others.

Hashes are the low 32 bits of xxh64(tenant/item): of 500 candidates against 8,192 seen items one
request in a thousand loses an item that was not seen. It never goes the other way.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protos.keys import short_item_hash
from protos.rec.v1.interests_pb2 import SeenSegment, UserInterests
from protos.rec.v1.recommend_pb2 import SeenPolicy

Hashes = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]

DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class ClosedSeen:
    """Items of closed segments: sorted hashes, each with the newest time it may have been seen."""

    hashes: Hashes
    last_ms: Times

    @classmethod
    def of(cls, segments: Iterable[SeenSegment]) -> "ClosedSeen":
        parts = [(unpack_hashes(s.item_hashes), s.last_event_time_ms) for s in segments]
        if not parts:
            return cls(np.empty(0, np.uint32), np.empty(0, np.int64))
        hashes = np.concatenate([part for part, _ in parts])
        times = np.concatenate([np.full(len(part), ms, np.int64) for part, ms in parts])
        order = np.lexsort((times, hashes))
        hashes, times = hashes[order], times[order]
        newest = np.append(hashes[1:] != hashes[:-1], True)[: len(hashes)]
        return cls(hashes[newest], times[newest])

    @property
    def n_bytes(self) -> int:
        return int(self.hashes.nbytes + self.last_ms.nbytes) + 200


@dataclass(frozen=True, slots=True)
class Policy:
    """When a seen item may come back: never, or once it was last seen before `cutoff_ms`."""

    allowed: bool = False
    cutoff_ms: int = -(2**62)

    @classmethod
    def of(cls, policy: int, days: int, now_ms: int) -> "Policy":
        if policy == SeenPolicy.SEEN_POLICY_ALLOWED:
            return cls(allowed=True)
        if policy == SeenPolicy.SEEN_POLICY_AFTER_DAYS:
            return cls(cutoff_ms=now_ms - days * DAY_MS)
        return cls()


def seen_mask(
    candidates: Hashes, closed: ClosedSeen, state: UserInterests, policy: Policy
) -> npt.NDArray[np.bool_]:
    """Return which candidates must not be shown."""
    if policy.allowed:
        return np.zeros(len(candidates), np.bool_)
    older = _in_closed(candidates, closed, policy.cutoff_ms)
    older |= np.isin(candidates, unpack_hashes(state.open_segment_hashes))
    newest: dict[int, int] = {}
    for recent in state.recent:
        hash_ = short_item_hash(state.tenant, recent.item_id)
        newest[hash_] = max(recent.event_time_ms, newest.get(hash_, recent.event_time_ms))
    fresh = [hash_ for hash_, ms in newest.items() if ms >= policy.cutoff_ms]
    return _isin(candidates, fresh) | (older & ~_isin(candidates, list(newest)))


def unpack_hashes(raw: bytes) -> Hashes:
    """View u32 little-endian bytes; a torn tail is left out."""
    return np.frombuffer(raw, "<u4", count=len(raw) // 4)


def _in_closed(candidates: Hashes, closed: ClosedSeen, cutoff_ms: int) -> npt.NDArray[np.bool_]:
    if len(closed.hashes) == 0:
        return np.zeros(len(candidates), np.bool_)
    at = np.minimum(np.searchsorted(closed.hashes, candidates), len(closed.hashes) - 1)
    found: npt.NDArray[np.bool_] = (closed.hashes[at] == candidates) & (
        closed.last_ms[at] >= cutoff_ms
    )
    return found


def _isin(candidates: Hashes, values: Sequence[int]) -> npt.NDArray[np.bool_]:
    return np.isin(candidates, np.array(values, np.uint32))
