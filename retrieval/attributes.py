"""What the catalogue declares: the attributes that a tenant's items carry, by name and kind.

A filter may name an attribute as long as some item of its tenant carries it. How many do is counted
in the same write that stores the item, from what the item was before to what it is now: so a record
that comes twice changes nothing, and a restart knows all of it at once. Nothing is held in memory.

A tenant has at most MAX_ATTRIBUTES names, those that came first. Further ones are counted all the
same, in a table of their own, and the first of them move up when a name is given up. A name that
the text of a filter or Milvus cannot hold declares nothing: it has 1 to MAX_NAME_BYTES bytes, no
backquote and no "][", which Milvus takes for the end of a key.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import TypeAlias

import structlog

from protos.keys import split_key
from protos.rec.v1.items_pb2 import Item, ItemVector
from retrieval.filters import Kind, Value
from retrieval.measures import ATTRIBUTES_BEYOND
from retrieval.store import ATTRIBUTES, BEYOND, ITEMS, META, Batch, Store

log = structlog.get_logger(__name__)

MAX_ATTRIBUTES = 256
MAX_NAME_BYTES = 128

_COUNTED = b"attributes"
_KINDS: dict[type[Value], Kind] = {str: Kind.TEXT, float: Kind.NUMBER, bool: Kind.FLAG}

Counts: TypeAlias = Counter[Kind]
"""How many items carry an attribute, by kind."""


def attributes_of(item: Item) -> dict[str, Value]:
    """Return an item's attributes as filters see them: those with a value, numbers if finite."""
    if not item.attributes:
        return {}
    values = {
        name: getattr(value, kind)
        for name, value in item.attributes.items()
        if (kind := value.WhichOneof("kind"))
    }
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, float) or math.isfinite(value)
    }


class TenantAttributes:
    """What filters of a tenant may name (retrieval.filter_language.Declared)."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store, self._prefix = store, _row(tenant)

    def kinds(self, name: str) -> frozenset[Kind]:
        """Return the kinds that items carry under this name; none for an unknown one."""
        raw = self._store.get(ATTRIBUTES, self._prefix + name.encode())
        return frozenset(map(Kind, json.loads(raw or b"{}")))

    def names(self) -> dict[str, frozenset[Kind]]:
        """Return all names with their kinds, in the order of the names' bytes."""
        rows = self._store.scan(ATTRIBUTES, self._prefix)
        n_prefix = len(self._prefix)
        return {row[n_prefix:].decode(): frozenset(_counts(raw)) for row, raw in rows}

    def is_beyond(self, name: str) -> bool:
        return self._store.get(BEYOND, self._prefix + name.encode()) is not None


class Census:
    """The counts that a batch of items changes."""

    def __init__(self, store: Store, batch: Batch) -> None:
        self._store, self._batch = store, batch
        self._changes: dict[str, dict[str, Counts]] = {}

    def replace(
        self, key: bytes, before: Item | None, attributes: Mapping[str, Value] | None
    ) -> None:
        """Count what an item is about to carry instead of what it was before (None: it is new);
        None: it goes."""
        if before is not None:
            self._count(key, attributes_of(before), -1)
        if attributes is not None:
            self._count(key, attributes, 1)

    def stored(self, key: bytes, raw: bytes) -> None:
        """Count an item that is stored already."""
        self._count(key, attributes_of(ItemVector.FromString(raw).item), 1)

    def _count(self, key: bytes, attributes: Mapping[str, Value], by: int) -> None:
        if not attributes:
            return
        changes = self._changes.setdefault(split_key(key)[0], {})
        for name, value in attributes.items():
            if _can_be_named(name):
                changes.setdefault(name, Counter())[_KINDS[type(value)]] += by

    def write(self) -> None:
        """Add the changes to the batch."""
        for tenant, changes in self._changes.items():
            changed = {name: change for name, change in changes.items() if any(change.values())}
            if changed:
                self._write(tenant, changed)
        self._batch.put(META, _COUNTED, b"1")

    def _write(self, tenant: str, changes: Mapping[str, Counts]) -> None:
        """Known names first, so that those which are given up make room for others."""
        n_declared = sum(1 for _ in self._store.scan(ATTRIBUTES, _row(tenant)))
        news = dict[str, Counts]()
        for name, change in changes.items():
            row = _row(tenant, name)
            if (raw := self._store.get(ATTRIBUTES, row)) is not None:
                n_declared -= not self._put(ATTRIBUTES, row, _counts(raw) + change)
            elif (raw := self._store.get(BEYOND, row)) is not None:
                self._put(BEYOND, row, _counts(raw) + change)
            else:
                news[name] = +change  # without the kinds that the batch itself took back
        n_declared += self._move_up(tenant, max(0, MAX_ATTRIBUTES - n_declared))
        n_left = max(0, MAX_ATTRIBUTES - n_declared)
        for place, (name, counts) in enumerate(news.items()):
            self._put(ATTRIBUTES if place < n_left else BEYOND, _row(tenant, name), counts)
        if beyond := list(news)[n_left:]:
            self._warn(tenant, beyond)

    def _move_up(self, tenant: str, n_left: int) -> int:
        """Declare names that had to wait; return how many."""
        rows = (row for row, _ in self._store.scan(BEYOND, _row(tenant)))
        waiting = (row for row in rows if self._batch.get(BEYOND, row) is not None)
        n_moved = 0
        for row in islice(waiting, n_left):
            self._put(ATTRIBUTES, row, _counts(self._batch.get(BEYOND, row)))
            self._batch.delete(BEYOND, row)
            n_moved += 1
        return n_moved

    def _put(self, table: bytes, row: bytes, counts: Counts) -> bool:
        """Store the counts; False, and no row, when no item is left."""
        if not counts:
            self._batch.delete(table, row)
            return False
        by_kind = {kind.value: n for kind, n in counts.items()}
        self._batch.put(table, row, json.dumps(by_kind).encode())
        return True

    def _warn(self, tenant: str, names: list[str]) -> None:
        ATTRIBUTES_BEYOND.inc(len(names))
        if next(self._store.scan(BEYOND, _row(tenant)), None) is None:
            log.warning(
                "too_many_attributes", tenant=tenant, max=MAX_ATTRIBUTES, first=names[0][:80]
            )


def count_if_never(store: Store) -> None:
    """Count the items of a store that was filled before attributes were counted."""
    if store.get(META, _COUNTED) is not None:
        return
    cleared = store.batch()
    for table in (ATTRIBUTES, BEYOND):
        cleared.delete_prefix(table, b"")
    cleared.write()
    batch = store.batch()
    census = Census(store, batch)
    for key, raw in store.scan(ITEMS, b""):
        census.stored(key, raw)
    census.write()
    batch.write()


def _can_be_named(name: str) -> bool:
    return 0 < len(name.encode()) <= MAX_NAME_BYTES and "`" not in name and "][" not in name


def _row(tenant: str, name: str = "") -> bytes:
    return f"{tenant}\0{name}".encode()


def _counts(raw: bytes | None) -> Counts:
    return Counter({Kind(kind): n for kind, n in json.loads(raw or b"{}").items()})
