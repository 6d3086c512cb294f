"""Which items a user has seen: pure functions over hashes.

Three sources, newest knowledge last: closed segments (rec.seen; each item is dated by the last
event of its segment, so "seen N days ago" is never too young), the open segment (dated now: its
times are not published), and the newest R items, whose times are exact and override the others.

Hashes are the low 32 bits of xxh64(tenant/item): of 500 candidates against 8,192 seen items one
request in a thousand loses an item that was not seen. It never goes the other way.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protos.keys import short_item_hash
from protos.rec.v1.interests_pb2 import SeenSegment, UserInterests
from protos.rec.v1.recommend_pb2 import SeenPolicy

Hashes = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]

DAY_MS = 24 * 3600 * 1000
_NEVER, _NOW = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class LastSeen:
    """Items by sorted hashes, each with the newest time at which it may have been seen."""

    hashes: Hashes
    last_ms: Times

    @classmethod
    def of_closed(cls, segments: Iterable[SeenSegment]) -> "LastSeen":
        """Read closed segments."""
        parts = [(unpack_hashes(s.item_hashes), s.last_event_time_ms) for s in segments]
        if not parts:
            return cls(np.empty(0, np.uint32), np.empty(0, np.int64))
        hashes = np.concatenate([part for part, _ in parts])
        times = np.concatenate([np.full(len(part), ms, np.int64) for part, ms in parts])
        order = np.lexsort((times, hashes))
        hashes, times = hashes[order], times[order]
        newest = np.append(hashes[1:] != hashes[:-1], True)[: len(hashes)]
        return cls(hashes[newest], times[newest])

    @classmethod
    def of_open(cls, state: UserInterests) -> "LastSeen":
        """Read the open segment and the newest items, whose own times go before its "now"."""
        exact: dict[int, int] = {}
        for recent in state.recent:
            hash_, ms = short_item_hash(state.tenant, recent.item_id), recent.event_time_ms
            exact[hash_] = max(ms, exact.get(hash_, ms))
        times = dict.fromkeys(unpack_hashes(state.open_segment_hashes).tolist(), _NOW) | exact
        hashes = np.fromiter(times.keys(), np.uint32, len(times))
        order = np.argsort(hashes)
        return cls(hashes[order], np.fromiter(times.values(), np.int64, len(times))[order])

    def times(self, candidates: Hashes) -> Times:
        """Return when each candidate was last seen; `_NEVER` for those not here."""
        if len(self.hashes) == 0:
            return np.full(len(candidates), _NEVER)
        at = np.minimum(np.searchsorted(self.hashes, candidates), len(self.hashes) - 1)
        found: Times = np.where(self.hashes[at] == candidates, self.last_ms[at], _NEVER)
        return found

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
    candidates: Hashes, closed: LastSeen, open_: LastSeen, policy: Policy
) -> npt.NDArray[np.bool_]:
    """Return which candidates must not be shown."""
    if policy.allowed:
        return np.zeros(len(candidates), np.bool_)
    newer = open_.times(candidates)
    last = np.where(newer == _NEVER, closed.times(candidates), newer)
    mask: npt.NDArray[np.bool_] = last >= policy.cutoff_ms
    return mask


def unpack_hashes(raw: bytes) -> Hashes:
    """View u32 little-endian bytes; a torn tail is left out."""
    return np.frombuffer(raw, "<u4", count=len(raw) // 4)
