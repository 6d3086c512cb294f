"""Keeps Milvus equal to rec.item-vectors: one follower, a collection for each model version.

How far a collection has come is remembered under its name *and* Milvus's own id of it: a restart
goes on where it stopped, while a collection that was made anew (a fresh Milvus) is filled from the
beginning of the topic. Rows are written before the offset is, so a crash repeats some: an upsert of
the same item changes nothing. Deletions pass to every collection.

Milvus may be away for as long as it likes: the follower waits with the batch in hand. A collection
that vanishes under it makes the follower start again, from where the remaining ones demand.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from infra.kafka_follower import Follower, Handler, Record
from protos.errors import DependencyDown, FreshetError, InvalidInput
from retrieval.catalogue import CatalogueItem, parse_item, refuse_item
from retrieval.measures import INDEXED, REFUSED_RECORDS
from retrieval.milvus.client import Collection, MissingCollection, WrongDimension
from retrieval.store import Store, put_offsets

log = structlog.get_logger(__name__)

BATCH_ITEMS = 500
MAX_PAUSE_S = 2.0


class Writer(Protocol):
    """What the indexer wants of Milvus (retrieval.milvus.writer.ItemWriter)."""

    def collections(self) -> list[Collection]: ...
    def ensure(self, model_version: str, dim: int) -> Collection: ...
    def upsert(self, collection: Collection, items: dict[bytes, CatalogueItem]) -> None: ...
    def delete(self, collection: Collection, keys: Sequence[bytes]) -> None: ...


@dataclass(slots=True)
class _Target:
    collection: Collection
    next_offsets: dict[int, int]


@dataclass(slots=True)
class _Changes:
    """What a batch of records means for one collection; the newest of each key."""

    upserts: dict[bytes, CatalogueItem] = field(default_factory=dict)
    deletes: dict[bytes, None] = field(default_factory=dict)

    def upsert(self, item: CatalogueItem) -> None:
        self.deletes.pop(item.key, None)
        self.upserts[item.key] = item

    def delete(self, key: bytes) -> None:
        self.upserts.pop(key, None)
        self.deletes[key] = None


FollowerOf = Callable[[Handler, Callable[[BaseException], None], dict[int, int]], Follower]
"""(handler, on_failure, start_at) -> a follower of rec.item-vectors, not started."""


class Indexer:
    def __init__(self, writer: Writer, store: Store, topic: str, follower_of: FollowerOf) -> None:
        self._writer, self._store, self._topic = writer, store, topic
        self._follower_of = follower_of
        self._targets: dict[str, _Target] = {}
        self._stopping = threading.Event()
        self._again = threading.Event()
        self._follower: Follower | None = None
        self.is_waiting = threading.Event()
        """Set while Milvus is away."""
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether all that was in the topic at the start is in Milvus, or Milvus is away."""
        has_read = self._follower is not None and self._follower.caught_up.is_set()
        return has_read or self.is_waiting.is_set()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._stopping.set()
        self._again.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """Follow; start again whenever the follower could not go on."""
        while not self._stopping.is_set():
            self._again.clear()
            self._patiently(self.load_targets)
            if self._stopping.is_set():
                return
            self._follower = self._follower_of(self.handle, self._failed, self.start_at())
            self._follower.start()
            self._again.wait()
            self._follower.stop()
            self._stopping.wait(1.0)

    def _failed(self, error: BaseException) -> None:
        log.warning("indexer_starts_again", reason=str(error))
        self._again.set()

    def load_targets(self) -> None:
        """Ask Milvus for the collections, and the store how far each has come."""
        self._targets = {
            found.model_version: _Target(found, self._store.next_offsets(self._row(found)))
            for found in self._writer.collections()
        }

    def start_at(self) -> dict[int, int]:
        """Return the first offset that any collection lacks, by partition."""
        progress = [target.next_offsets for target in self._targets.values()]
        common = set.intersection(*(set(offsets) for offsets in progress)) if progress else set()
        return {number: min(offsets[number] for offsets in progress) for number in common}

    def handle(self, records: Sequence[Record]) -> None:
        """Write a batch to every collection; called on the follower's thread.

        Raises MissingCollection when one vanished: follow again from `start_at`.
        """
        for begin in range(0, len(records), BATCH_ITEMS):
            batch = records[begin : begin + BATCH_ITEMS]
            changes = self._plan(batch)
            for version, change in changes.items():
                target = self._targets[version]
                self._patiently(partial(self._write, target.collection, change))
            if self._stopping.is_set():
                return
            self._remember(batch)

    def _plan(self, records: Sequence[Record]) -> dict[str, _Changes]:
        changes: dict[str, _Changes] = {}
        for record in records:
            if record.value is None:
                for version in self._targets:
                    if self._is_news(version, record):
                        changes.setdefault(version, _Changes()).delete(record.key)
                continue
            try:
                item = parse_item(self._topic, record)
            except InvalidInput:
                continue  # counted by the catalogue, which reads the same topic
            for version, vector in item.vectors.items():
                if self._stopping.is_set():
                    return changes
                if not self._has_target(version, len(vector)):
                    refuse_item(self._topic, record, InvalidInput("wrong length"), "dimension")
                elif self._is_news(version, record):
                    changes.setdefault(version, _Changes()).upsert(item)
        return changes

    def _has_target(self, version: str, dim: int) -> bool:
        """Make the version's collection at its first vector; False for vectors of another
        length."""
        if version not in self._targets:
            try:
                self._patiently(lambda: self._add_target(version, dim))
            except WrongDimension:
                return False
        target = self._targets.get(version)
        return target is not None and target.collection.dim == dim

    def _add_target(self, version: str, dim: int) -> None:
        found = self._writer.ensure(version, dim)
        # Records before the first one of a version hold nothing for it.
        self._targets[version] = _Target(found, self._store.next_offsets(self._row(found)))
        log.info("collection_ready", name=found.name, model_version=version, dim=dim)

    def _is_news(self, version: str, record: Record) -> bool:
        return record.offset >= self._targets[version].next_offsets.get(record.partition, 0)

    def _write(self, collection: Collection, change: _Changes) -> None:
        try:
            self._write_together(collection, change)
        except (DependencyDown, MissingCollection):
            raise
        except FreshetError as error:
            log.warning("batch_refused", collection=collection.name, message=str(error))
            self._write_one_by_one(collection, change)

    def _write_together(self, collection: Collection, change: _Changes) -> None:
        if change.upserts:
            self._writer.upsert(collection, change.upserts)
            INDEXED.labels("upsert").inc(len(change.upserts))
        if change.deletes:
            self._writer.delete(collection, list(change.deletes))
            INDEXED.labels("delete").inc(len(change.deletes))

    def _write_one_by_one(self, collection: Collection, change: _Changes) -> None:
        """Find the item that Milvus refuses, and leave out it alone."""
        for key, item in change.upserts.items():
            try:
                self._writer.upsert(collection, {key: item})
            except (DependencyDown, MissingCollection):
                raise
            except FreshetError as error:
                REFUSED_RECORDS.labels(self._topic, "milvus").inc()
                log.warning("item_refused", item_id=item.item_id, message=str(error))
        if change.deletes:
            self._writer.delete(collection, list(change.deletes))

    def _remember(self, records: Sequence[Record]) -> None:
        batch = self._store.batch()
        for target in self._targets.values():
            for record in records:
                done = target.next_offsets.get(record.partition, 0)
                target.next_offsets[record.partition] = max(done, record.offset + 1)
            put_offsets(batch, self._row(target.collection), target.next_offsets)
        batch.write()

    def _patiently(self, act: Callable[[], None]) -> None:
        """Do it, however long Milvus is away; give up only to stop."""
        pause_s = 0.1
        while not self._stopping.is_set():
            try:
                act()
            except DependencyDown as error:
                if not self.is_waiting.is_set():
                    log.warning("index_waits_for_milvus", message=str(error))
                self.is_waiting.set()
                self._stopping.wait(pause_s)
                pause_s = min(MAX_PAUSE_S, 2 * pause_s)
                continue
            self.is_waiting.clear()
            return

    def _row(self, collection: Collection) -> str:
        return f"index:{self._topic}:{collection.name}:{collection.uid}"
