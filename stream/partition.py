"""One partition of rec.events in a worker's memory: a write-back cache over its RocksDB.

The agent folds into heads that live here; a checkpoint takes what changed, as bytes, together with
the offset of the next record expected, so that state and position never part. Two rules keep that
exact:

* Records are applied in the order of their offsets, none left out (`arrive`): a smaller offset than
  the expected one was redelivered and is skipped; a larger one is a gap, and the records in it are
  read again. A gap that a second read finds just so (truncated log, control records) is accepted
  and counted.
* A head that changed since the last completed checkpoint is never evicted, and what a checkpoint
  has taken but not yet written is still found (`get`).

The position check assumes that offsets are contiguous but for such gaps: rec.events is neither
compacted nor written by transactions.

Order of a checkpoint's changes: segments and what was published, then heads, then the position. A
torn write of the changelog then leaves heads behind, never ahead of their segments.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from protos.history import Head, Shape
from protos.segments import Segment
from stream.store import (
    POSITION_KEY,
    Published,
    head_key,
    pack_position,
    published_key,
    segment_key,
    unpack_position,
)

Changes = dict[bytes, bytes | None]
"""New values by key, in the order in which they must become durable; None deletes."""


class Disk(Protocol):
    """The durable side of one partition."""

    def get(self, key: bytes) -> bytes | None: ...

    def write(self, changes: Mapping[bytes, bytes | None], changelog_offset: int) -> None:
        """Write all of it or nothing, with the changelog offset that it includes."""

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the keys that begin with `prefix`, in their order."""


class Arrival(enum.Enum):
    APPLY = enum.auto()
    SKIP = enum.auto()
    """Redelivered."""
    REREAD = enum.auto()
    """Read again from `next_offset`; drop what was fetched before."""


@dataclass(slots=True, eq=False)
class User:
    """A cached head, and what only lives in memory. Ask `Partition.user` for it anew after each
    await: it may have been evicted and read again."""

    key: bytes
    head: Head
    cause_offset: int = -1
    """Record of the newest event that counted; -1 when this worker did not fold it."""
    folded_us: int = 0
    """When that was, wall clock."""
    digests: tuple[tuple[str, int], list[bytes]] | None = None
    """Names of the visible blocks, by (model version, closed segments); see stream/states.py."""


class Partition:
    """Owned by one worker, from assignment to revocation. Not thread-safe: the event loop's."""

    def __init__(self, number: int, disk: Disk, shape: Shape, *, n_cached: int) -> None:
        self.number = number
        self.is_open = True
        """False once revoked: whoever still holds the partition must leave it alone."""
        self.n_lost_offsets = 0
        """Offsets in gaps that a second read confirmed."""
        self._disk, self._shape, self._n_cached = disk, shape, n_cached
        position = disk.get(POSITION_KEY)
        self.next_offset = None if position is None else unpack_position(position)
        """Offset of the next record to apply; None takes the first that comes."""
        self._gap_end: int | None = None
        self._users: dict[bytes, User] = {}
        self._dirty: dict[bytes, User] = {}
        self._puts: Changes = {}
        self._flushing: Changes = {}
        self._moved = False

    def arrive(self, offset: int) -> Arrival:
        """Judge a record by its offset, before it is applied."""
        if self.next_offset is None or offset == self.next_offset:
            self._gap_end = None
            return Arrival.APPLY
        if offset < self.next_offset:
            # At the end of what was redelivered the group's offset is behind the position.
            self._moved |= offset + 1 == self.next_offset
            return Arrival.SKIP
        if offset != self._gap_end:
            self._gap_end = offset
            return Arrival.REREAD
        self.n_lost_offsets += offset - self.next_offset
        self._gap_end = None
        return Arrival.APPLY

    def advance(self, offset: int) -> None:
        """Say that the record at `offset` is done with, whatever became of it."""
        self.next_offset = offset + 1
        self._moved = True

    def user(self, key: bytes) -> User:
        """Return a user's cached head, read from disk, or new."""
        user = self._users.pop(key, None)
        if user is None:
            stored = self.get(head_key(key))
            head = Head.empty(self._shape) if stored is None else Head.from_bytes(stored)
            user = User(key, head)
        self._users[key] = user  # newest last
        return user

    def holds(self, key: bytes) -> bool:
        """Whether the user's head is in memory."""
        return key in self._users

    def changed(self, user: User) -> None:
        """Say that a head is to be written."""
        self._dirty[user.key] = user

    def segment(self, user_key: bytes, index: int) -> Segment | None:
        """Return a closed segment; None when it is no longer kept."""
        stored = self.get(segment_key(user_key, index))
        return None if stored is None else Segment.from_bytes(stored)

    def put_segment(self, user_key: bytes, index: int, segment: Segment) -> None:
        self._puts[segment_key(user_key, index)] = segment.to_bytes()

    def delete_segment(self, user_key: bytes, index: int) -> None:
        self._puts[segment_key(user_key, index)] = None

    def published(self, user_key: bytes) -> Published | None:
        stored = self.get(published_key(user_key))
        return None if stored is None else Published.from_bytes(stored)

    def put_published(self, user_key: bytes, published: Published | None) -> None:
        value = None if published is None else published.to_bytes()
        self._puts[published_key(user_key)] = value

    def get(self, key: bytes) -> bytes | None:
        """Return the newest value of a key that is not a cached head."""
        for layer in (self._puts, self._flushing):
            if key in layer:
                return layer[key]
        return self._disk.get(key)

    def stored_items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over what is on disk; what is newer in memory is not seen."""
        return self._disk.items(prefix)

    @property
    def is_dirty(self) -> bool:
        return self._moved or bool(self._dirty) or bool(self._puts)

    def take_changes(self) -> Changes:
        """Return what is to become durable, and remember it as being written.

        One checkpoint at a time: `written` comes before the next one.
        """
        assert not self._flushing, "a checkpoint began before the one before it was written"
        changes = self._puts
        for key, user in self._dirty.items():
            changes[head_key(key)] = user.head.to_bytes()
        if self.next_offset is not None:
            changes[POSITION_KEY] = pack_position(self.next_offset)
        self._puts, self._dirty, self._moved = {}, {}, False
        self._flushing = changes
        return changes

    def write(self, changes: Changes, changelog_offset: int) -> None:
        """Put what the changelog now has onto the disk, and let go of the oldest clean heads."""
        self._disk.write(changes, changelog_offset)
        self._flushing = {}
        self._evict()

    def _evict(self) -> None:
        n_over = len(self._users) - self._n_cached
        if n_over <= 0:
            return
        clean = [key for key in self._users if key not in self._dirty]
        for key in clean[:n_over]:
            del self._users[key]

    @property
    def n_cached(self) -> int:
        return len(self._users)
