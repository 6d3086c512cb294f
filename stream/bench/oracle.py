"""What every user's history must be, by a plain loop over the log.

Independent of protos/history.py and the rest of stream/: own duplicate, gap, recent and segment
logic, lists instead of bytes. It shares with them only the generated messages.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import xxhash

from protos.rec.v1.events_pb2 import Event, EventBatch

DAY_MS = 86_400_000
ACTION_CODES = {"view": 1, "click": 2, "play": 3, "like": 4, "purchase": 5, "dismiss": 6}
SEGMENT, RECENT, IDS, KEPT = 128, 32, 64, 64


T = TypeVar("T")


class LogRecord(Protocol):
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def n_partitions(self) -> int: ...


@dataclass
class OracleUser:
    watermark: int = -1
    hashes: list[int] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    items: list[tuple[str, int, int]] = field(default_factory=list)
    """(item_id, event_time_ms, action code)"""
    ids: list[str] = field(default_factory=list)
    n_late: int = 0
    newest_ms: int = 0
    accepted_ms: int = 0
    erased: bool = False
    forgotten_until: int = 0
    """Broker's time of the erasure: what happened before does not count."""

    def kept(self, column: list[T]) -> list[T]:
        """What remains of a column under retention: the newest 64 closed segments, and the open
        one."""
        n_closed = len(column) // SEGMENT
        return column[max(0, n_closed - KEPT) * SEGMENT :]


def replay(records: Iterable[LogRecord]) -> dict[tuple[str, str], OracleUser]:
    """Fold a whole log; `records` are Kafka records of all partitions, each in its order."""
    users: dict[tuple[str, str], OracleUser] = {}
    for record in records:
        try:
            batch = EventBatch.FromString(record.value or b"\xff")
        except Exception:
            continue
        tenant = batch.tenant or "default"
        home = java_partition(f"{tenant}/{batch.user_id}", record.n_partitions)
        if not batch.user_id or record.partition != home:
            continue
        user = users.setdefault((tenant, batch.user_id), OracleUser())
        if batch.HasField("erase"):
            if not batch.events:
                users[tenant, batch.user_id] = OracleUser(
                    watermark=record.offset, erased=True, forgotten_until=record.timestamp
                )
            else:
                user.watermark = record.offset
            continue
        for index, event in enumerate(batch.events):
            _apply(user, tenant, event, index, record)
        user.watermark = record.offset
    return users


def _apply(user: OracleUser, tenant: str, event: Event, index: int, record: LogRecord) -> None:
    good_time = 0 < event.event_time_ms <= record.timestamp + DAY_MS
    if not event.item_id or event.action not in ACTION_CODES or not good_time:
        return
    if len(event.item_id.encode()) > 256:
        return
    if event.event_time_ms <= user.forgotten_until:
        return
    name = event.event_id or f"{record.partition}-{record.offset}-{index}"
    if name in user.ids[-IDS:]:
        return
    if user.hashes and event.event_time_ms < user.newest_ms:
        user.n_late += 1
    seconds = (event.event_time_ms - user.newest_ms) / 1000 if user.hashes else 0.0
    gap = 0 if seconds <= 0 else min(65535, round(2048 * math.log2(1 + seconds)))
    first = not user.hashes
    user.newest_ms = event.event_time_ms if first else max(user.newest_ms, event.event_time_ms)
    code = ACTION_CODES[event.action]
    user.hashes.append(_short_hash(f"{tenant}/{event.item_id}"))
    user.actions.append(code)
    user.gaps.append(gap)
    user.items.append((event.item_id, event.event_time_ms, code))
    user.ids.append(name)
    user.accepted_ms = record.timestamp
    user.erased = False


def java_partition(key: str, n_partitions: int) -> int:
    """Kafka's default partitioner, after the description of MurmurHash2 (seed 0x9747b28c)."""
    blob, mask, m = key.encode(), 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(blob)) & mask
    whole = len(blob) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(blob[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if tail := blob[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    h ^= h >> 15
    return (h & 0x7FFFFFFF) % n_partitions


def _short_hash(key: str) -> int:
    return xxhash.xxh64_intdigest(key.encode()) & 0xFFFFFFFF
