"""What a run with crashes has cost: events lost, counted twice, users unequal.

Two judges, neither of which knows the product's fold:

* `account` only counts: every acknowledged event is in the log, and every history has as many
  events as the log has names of its user. Erased users are not counted, but compared;
* the oracle (stream/bench/oracle.py) says column by column what each history must be. Compared with
  it are the changelog, the disks of the workers that owned the partitions last, rec.seen, the dead
  letters, and the offsets of rec.interests.
"""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from protos.rec.v1.events_pb2 import EventBatch
from protos.rec.v1.interests_pb2 import SeenSegment
from stream.bench.acknowledged import EventName
from stream.bench.histories import Difference, History, UserKey
from stream.bench.oracle import ACTION_CODES, SEGMENT, LogRecord, OracleUser, java_partition

DeadLetter = tuple[int, int, int]
"""(partition, offset, index in the record)"""

TENANT = "default"


@dataclass(frozen=True, slots=True)
class Logged:
    """What rec.events says, read without any fold."""

    names: Mapping[str, frozenset[str]]
    """event_ids of valid events by user, on whichever partition they stand."""
    erased: frozenset[str]
    """Users that were erased at least once."""
    dead: frozenset[DeadLetter]
    """Events that must have become dead letters."""


@dataclass(frozen=True, slots=True)
class Account:
    lost: int
    twice: int


@dataclass(slots=True)
class Verdict:
    account: Account
    changelog: list[Difference] = field(default_factory=list)
    disks: list[Difference] = field(default_factory=list)
    stale: list[Difference] = field(default_factory=list)
    seen: list[Difference] = field(default_factory=list)
    lost_letters: list[DeadLetter] = field(default_factory=list)

    @property
    def unequal_users(self) -> int:
        return len({one.user for one in (*self.changelog, *self.disks)})

    @property
    def is_clean(self) -> bool:
        counted = self.account.lost + self.account.twice
        return not (counted or self.differences or self.lost_letters)

    @property
    def differences(self) -> list[Difference]:
        return [*self.changelog, *self.disks, *self.stale, *self.seen]


def read_log(records: Iterable[LogRecord]) -> Logged:
    """Read which events the log has. All of them have names."""
    names: dict[str, set[str]] = {}
    erased: set[str] = set()
    dead: set[DeadLetter] = set()
    for record in records:
        batch = EventBatch.FromString(record.value or b"")
        if batch.HasField("erase"):
            erased.add(batch.user_id)
        # A misplaced record is published again; only there its bad events are buried.
        home = java_partition(f"{TENANT}/{batch.user_id}", record.n_partitions)
        of_user = names.setdefault(batch.user_id, set())
        for index, event in enumerate(batch.events):
            if event.action in ACTION_CODES:
                of_user.add(event.event_id)
            elif record.partition == home:
                dead.add((record.partition, record.offset, index))
    frozen = {user_id: frozenset(of_user) for user_id, of_user in names.items()}
    return Logged(frozen, frozenset(erased), frozenset(dead))


def account(
    acknowledged: Collection[EventName], logged: Logged, histories: Mapping[UserKey, History]
) -> Account:
    """Count what is missing and what is too much.

    Lost: an acknowledged event that the log lacks, or one of the log that its history lacks. Twice:
    a history with more events than the log has names, or with one name twice among its newest 64.
    """
    known = logged.names
    lost = sum(event_id not in known.get(user_id, ()) for user_id, event_id in acknowledged)
    twice = 0
    for user_id in known.keys() - logged.erased:
        history = histories.get((TENANT, user_id))
        surplus = (history.head.n_events if history is not None else 0) - len(known[user_id])
        lost, twice = lost + max(0, -surplus), twice + max(0, surplus)
    for history in histories.values():
        newest = list(history.head.event_hashes)
        twice += len(newest) - len(set(newest))
    return Account(lost, twice)


def stale_users(
    encoded: Mapping[UserKey, int], oracle: Mapping[UserKey, OracleUser]
) -> list[Difference]:
    """Return users whose newest published state is not of their newest record.

    Args:
        encoded: encoded_offset of the newest record of rec.interests by user.
    """
    return [
        Difference(user, "encoded_offset", encoded.get(user), wanted.watermark)
        for user, wanted in sorted(oracle.items())
        if encoded.get(user) != wanted.watermark
    ]


def unequal_seen(
    newest: Mapping[bytes, bytes | None], oracle: Mapping[UserKey, OracleUser]
) -> list[Difference]:
    """Return closed segments that rec.seen lacks, has otherwise, or has of what was erased.

    Args:
        newest: value by key.
    """
    wanted = {
        (user, index): struct.pack(f"<{SEGMENT}I", *hashes)
        for user, one in oracle.items()
        for index, hashes in enumerate(_closed(one.hashes))
    }
    found = {}
    for value in newest.values():
        if value is not None:
            segment = SeenSegment.FromString(value)
            user = segment.tenant, segment.user_id
            found[user, segment.segment_index] = segment.item_hashes
    return [
        Difference(place[0], f"seen segment {place[1]}", place in found, place in wanted)
        for place in sorted(wanted.keys() | found.keys())
        if found.get(place) != wanted.get(place)
    ]


def _closed(hashes: Sequence[int]) -> list[Sequence[int]]:
    ends = range(SEGMENT, len(hashes) + 1, SEGMENT)
    return [hashes[end - SEGMENT : end] for end in ends]
