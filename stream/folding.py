"""What one record of rec.events does: to a head, to the topics, to who is refreshed.

Synchronous and without I/O but for reads of the partition's own disk, so that a checkpoint never
sees half a record. What must reach Kafka is queued in the outbox (`emit`), in the order in which it
came to pass.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from infra.kafka_topics import Topics, key_partition
from protos.actions import Action
from protos.history import Folded, FoldEvent, erase, fold
from protos.rec.v1.events_pb2 import EventBatch, Origin
from protos.rec.v1.interests_pb2 import SeenSegment
from protos.segments import NO_CODEBOOK, Segment
from stream.attribution import Attribution
from stream.catalogue import Catalogue
from stream.metrics import WorkerMetrics
from stream.outbox import Outbox, Outgoing
from stream.partition import Partition, User
from stream.store import N_KEPT_SEGMENTS
from stream.trending import Trending
from stream.validation import Place, Rejected, Validated, name_event, validate


class LogRecord(Protocol):
    """A consumed record, as aiokafka has it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Refreshes(Protocol):
    """Who is owed a refresh (stream/refresh.py)."""

    def touch(self, partition: Partition, user: User) -> None:
        """Say that a user's state moved."""

    def forget(self, partition: Partition, user: User) -> None:
        """Make void what is being computed of a user, and delete what was: an erasure came."""


class Folder:
    def __init__(
        self,
        topics: Topics,
        n_partitions: int,
        *,
        actions: dict[str, Action],
        catalogue: Catalogue,
        codebook_version: Callable[[], int],
        outbox: Outbox,
        refreshes: Refreshes,
        metrics: WorkerMetrics,
    ) -> None:
        """
        Args:
            codebook_version: the encoder's; NO_CODEBOOK until it has answered.
        """
        self._topics, self._n_partitions = topics, n_partitions
        self._action_of, self._catalogue = actions.get, catalogue
        self._weights = {action.code: action.weight for action in actions.values()}
        self._codebook_version, self._outbox = codebook_version, outbox
        self._refreshes, self._metrics = refreshes, metrics
        self._partition_of = lru_cache(65_536)(key_partition)
        # Counted here and handed to Prometheus a step at a time: its locks cost as much as a fold.
        self._records: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._attribution = Attribution()

    def apply(self, partition: Partition, trending: Trending, record: LogRecord) -> int:
        """Apply a record that `Partition.arrive` let through; return how many events it had."""
        place = Place(record.topic, record.partition, record.offset, record.timestamp)
        said = validate(record.value, place, self._action_of, record.headers)
        if said.batch is None:
            self._count("unreadable", said)
            self._bury(said, record)
        elif not self._is_at_home(partition, said):
            self._send_home(said, said.batch, record, place)
        else:
            self._apply(partition, trending, said, said.batch, record)
        partition.advance(record.offset)
        return len(said.events) + len(said.rejected) + said.n_impressions or 1

    def _is_at_home(self, partition: Partition, said: Validated) -> bool:
        if partition.holds(said.user_key):
            return True
        return self._partition_of(said.user_key, self._n_partitions) == partition.number

    def _apply(
        self,
        partition: Partition,
        trending: Trending,
        said: Validated,
        batch: EventBatch,
        record: LogRecord,
    ) -> None:
        user = partition.user(said.user_key)
        self._bury(said, record)
        if said.is_erasure:
            is_new = self._erase(partition, user, record)
        else:
            is_new = self._fold(partition, trending, user, said, batch, record)
        self._count("applied" if is_new else "redelivered", said)
        if is_new:
            partition.changed(user)
            self._refreshes.touch(partition, user)

    def _fold(
        self,
        partition: Partition,
        trending: Trending,
        user: User,
        said: Validated,
        batch: EventBatch,
        record: LogRecord,
    ) -> bool:
        # While the encoder has not answered yet, the open segment keeps the codebook it has.
        version = self._codebook_version() or user.head.open.codebook_version
        folded = fold(
            user.head,
            said.events,
            offset=record.offset,
            accepted_ms=record.timestamp,
            codes_of=_no_codes if version == NO_CODEBOOK else self._catalogue.codes_of(version),
            codebook_version=version,
        )
        if folded.applied:
            user.cause_offset, user.folded_us = record.offset, time.time_ns() // 1000
            self._trend(trending, said.tenant, folded.applied, record.timestamp)
        for index, segment in folded.closed:
            self._close(partition, user, said.tenant, batch.user_id, index, segment)
        self._count_folded(folded)
        if folded.is_new and any(event.recommendation_id for event in batch.events):
            place = Place(record.topic, record.partition, record.offset, record.timestamp)
            self._attribution.count(said, place, batch.events, folded.applied)
        return folded.is_new

    def _trend(
        self, trending: Trending, tenant: str, applied: Sequence[FoldEvent], accepted_ms: int
    ) -> None:
        weights = self._weights
        weighed = [(e.item_id, weights[e.action]) for e in applied if weights[e.action]]
        if weighed:
            trending.add(tenant, weighed, accepted_ms)

    def _close(
        self,
        partition: Partition,
        user: User,
        tenant: str,
        user_id: str,
        index: int,
        segment: Segment,
    ) -> None:
        partition.put_segment(user.key, index, segment)
        if index >= N_KEPT_SEGMENTS:
            partition.delete_segment(user.key, index - N_KEPT_SEGMENTS)
        seen = SeenSegment(
            tenant=tenant,
            user_id=user_id,
            segment_index=index,
            item_hashes=bytes(segment.hashes),
            last_event_time_ms=user.head.last_event_time_ms,
            offset=user.head.watermark,
        )
        key = seen_key(user.key, index)
        value = seen.SerializeToString()
        self._outbox.emit([Outgoing(self._topics.seen, key, value, partition.number)])

    def _erase(self, partition: Partition, user: User, record: LogRecord) -> bool:
        n_closed = user.head.n_closed
        if not erase(user.head, offset=record.offset, accepted_ms=record.timestamp):
            return False
        self._metrics.erasures.inc()
        self._refreshes.forget(partition, user)
        for index in range(max(0, n_closed - N_KEPT_SEGMENTS), n_closed):
            partition.delete_segment(user.key, index)
        partition.put_published(user.key, None)
        user.cause_offset, user.digests = -1, None
        self._outbox.emit(
            [
                Outgoing(self._topics.seen, seen_key(user.key, index), None, partition.number)
                for index in range(n_closed)
            ]
        )
        return True

    def _send_home(
        self, said: Validated, batch: EventBatch, record: LogRecord, place: Place
    ) -> None:
        """Publish a record of a producer that hashes otherwise to its user's partition."""
        if batch.HasField("origin"):
            # We chose its partition ourselves once: never twice, or it might circle for ever.
            detail = f"republished to partition {place.partition}, which is not its user's"
            self._bury(replace(said, rejected=(Rejected("misplaced_again", detail),)), record)
            self._count("unreadable", said)
            return
        for index, event in enumerate(batch.events):
            event.event_id = event.event_id or name_event(place, index)
        batch.origin.CopyFrom(
            Origin(
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
                timestamp_ms=place.timestamp_ms,
            )
        )
        home = self._partition_of(said.user_key, self._n_partitions)
        value = batch.SerializeToString()
        self._outbox.emit([Outgoing(self._topics.events, said.user_key, value, home)])
        self._records["republished"] += 1

    def _bury(self, said: Validated, record: LogRecord) -> None:
        for rejected in said.rejected:
            self._metrics.dead_letters.labels(rejected.reason).inc()
            self._outbox.emit([_dead_letter(self._topics, rejected, said, record)])

    def _count(self, outcome: str, said: Validated) -> None:
        self._records[outcome] += 1
        self._events["rejected"] += len(said.rejected)
        self._events["impression"] += said.n_impressions

    def _count_folded(self, folded: Folded) -> None:
        self._events["applied"] += len(folded.applied)
        self._events["duplicate"] += folded.n_duplicates
        self._events["erased"] += folded.n_erased
        self._events["late"] += folded.n_late

    def report(self) -> None:
        """Hand what was counted to Prometheus."""
        pairs = ((self._records, self._metrics.records), (self._events, self._metrics.events))
        for counted, metric in pairs:
            for outcome, n in counted.items():
                metric.labels(outcome).inc(n)
            counted.clear()
        self._attribution.report(self._metrics.attributed)


def seen_key(user_key: bytes, index: int) -> bytes:
    """Return the key of a record of rec.seen: tenant/user/segment."""
    return user_key + b"/%d" % index


def _no_codes(item_hash: int) -> bytes | None:
    return None


def _dead_letter(
    topics: Topics, rejected: Rejected, said: Validated, record: LogRecord
) -> Outgoing:
    value, as_it_came = record.value, record.headers
    if rejected.index is not None and said.batch is not None:
        alone = EventBatch(tenant=said.batch.tenant, user_id=said.batch.user_id)
        alone.events.append(said.batch.events[rejected.index])
        if said.batch.HasField("origin"):
            alone.origin.CopyFrom(said.batch.origin)
        value, as_it_came = alone.SerializeToString(), ()
    headers = {
        "reason": rejected.reason,
        "detail": rejected.detail,
        "source_topic": record.topic,
        "source_partition": str(record.partition),
        "source_offset": str(record.offset),
        "source_timestamp_ms": str(record.timestamp),
        "event_index": "" if rejected.index is None else str(rejected.index),
    }
    encoded = [(name, text.encode()) for name, text in headers.items()]
    # Not the headers of an earlier burial: a letter that was sent again says only its newest.
    encoded += [(name, text) for name, text in as_it_came if name not in headers]
    return Outgoing(topics.dead_letters, record.key, value, headers=encoded)
