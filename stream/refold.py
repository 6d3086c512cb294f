"""Folds the log again, away from the worker, by the worker's own validation and fold.

What a record does depends on those of its partition before it and on nothing else, so reading a
partition from its beginning gives every history at every record: what `freshet export` writes, and
what `freshet user --at` shows. Codes are left out; they are a matter of the catalogue and can be
filled in later.

Where retention has cut the log's beginning, histories begin there too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum, auto

from infra.kafka_topics import key_partition
from protos.actions import declared_actions
from protos.history import Folded, Shape, erase, fold
from protos.rec.v1.events_pb2 import EventBatch
from protos.segments import NO_CODEBOOK
from stream.folding import LogRecord
from stream.partition import Partition, User
from stream.store import N_KEPT_SEGMENTS
from stream.validation import Place, Validated, validate


class Deed(StrEnum):
    """What a record did."""

    APPLIED = auto()
    ERASED = auto()
    UNREADABLE = auto()
    """It names no user, or cannot be read: a dead letter."""
    MISPLACED = auto()
    """It lies on another partition than its user's; the worker has published it there again."""
    LEFT_OUT = auto()
    """It is not wanted."""


@dataclass(frozen=True, slots=True)
class Refolded:
    """One record."""

    deed: Deed
    said: Validated
    user: User | None = None
    batch: EventBatch | None = None
    """Set with APPLIED and ERASED, as `user` is."""
    folded: Folded | None = None
    """Set with APPLIED."""


Wanted = Callable[[Validated], bool]


class Refold:
    """One partition. Memory: the heads of its users, and their kept segments if they are kept."""

    def __init__(
        self, partition: int, n_partitions: int, *, wanted: Wanted, keep_segments: bool
    ) -> None:
        """
        Args:
            wanted: whose records are folded; the others are LEFT_OUT.
        """
        self.partition = Partition(partition, NoDisk(), Shape(), n_cached=0)
        self._n_partitions, self._wanted, self._keeps = n_partitions, wanted, keep_segments
        self._action_of = declared_actions().get

    def apply(self, record: LogRecord) -> Refolded:
        """Fold the partition's next record."""
        place = Place(record.topic, record.partition, record.offset, record.timestamp)
        said = validate(record.value, place, self._action_of, record.headers)
        if said.batch is None:
            return Refolded(Deed.UNREADABLE, said)
        if not self._wanted(said):
            return Refolded(Deed.LEFT_OUT, said)
        if key_partition(said.user_key, self._n_partitions) != self.partition.number:
            return Refolded(Deed.MISPLACED, said)
        user = self.partition.user(said.user_key)
        user.cause_offset = record.offset
        if said.is_erasure:
            for index in range(user.head.n_closed if self._keeps else 0):
                self.partition.delete_segment(user.key, index)
            erase(user.head, offset=record.offset, accepted_ms=record.timestamp)
            return Refolded(Deed.ERASED, said, user, said.batch)
        folded = fold(
            user.head,
            said.events,
            offset=record.offset,
            accepted_ms=record.timestamp,
            codes_of=lambda item_hash: None,
            codebook_version=NO_CODEBOOK,
        )
        for index, segment in folded.closed if self._keeps else ():
            self.partition.put_segment(user.key, index, segment)
            if index >= N_KEPT_SEGMENTS:
                self.partition.delete_segment(user.key, index - N_KEPT_SEGMENTS)
        return Refolded(Deed.APPLIED, said, user, said.batch, folded)


class NoDisk:
    """Under a partition that lives in memory alone."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def write(self, changes: Mapping[bytes, bytes | None], changelog_offset: int) -> None:
        raise AssertionError("nothing is written here")

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())
