"""What is trending: follows rec.trending, one list a (tenant, category, partition of rec.events).

A reader adds up the partitions: each list carries the moment that its scores are decayed to, so all
are first decayed to the newest of these moments. Ties stand in the order of their ids.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import structlog
from google.protobuf.message import DecodeError

from infra.kafka_follower import Record
from infra.lru import Lru
from protos.errors import InvalidInput
from protos.keys import checked_tenant, compose_key, split_key
from protos.rec.v1.interests_pb2 import TrendingList
from retrieval.measures import REFUSED_RECORDS
from retrieval.store import TRENDING, Store, put_offsets

log = structlog.get_logger(__name__)

Ranking = tuple[tuple[str, float], ...]
"""(item_id, decayed count), greatest first."""


def add_up(lists: Iterable[TrendingList]) -> Ranking:
    """Add up the lists of several partitions, decayed to the newest of their moments."""
    lists = list(lists)
    as_of_ms = max((entry.as_of_ms for entry in lists), default=0)
    scores: defaultdict[str, float] = defaultdict(float)
    for entry in lists:
        age = (as_of_ms - entry.as_of_ms) / entry.half_life_ms if entry.half_life_ms > 0 else 0.0
        for item in entry.items:
            scores[item.item_id] += item.score * 0.5**age
    return tuple(sorted(scores.items(), key=lambda pair: (-pair[1], pair[0])))


class TrendingBoard:
    def __init__(self, store: Store, *, on_change: Callable[[set[str]], None]) -> None:
        """
        Args:
            on_change: told the tenants whose lists changed; on the follower's thread.
        """
        self._store, self._on_change = store, on_change
        self._rankings: Lru[bytes, Ranking] = Lru(8 * 2**20)

    def top(self, tenant: str, category: str = "") -> Ranking:
        """Return what is trending in a category; "" is everything."""
        key = compose_key(tenant, category)
        found = self._rankings.get(key)
        if found is not None:
            return found
        rows = self._store.scan(TRENDING, key + b"\0")
        ranking = add_up(
            TrendingList.FromString(raw) for row, raw in rows if len(row) == len(key) + 5
        )
        self._rankings.put(key, ranking, 200 + 150 * len(ranking))
        return ranking

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Take a batch of rec.trending. Called on that topic's follower thread only."""
        batch, changed, tenants = self._store.batch(), set[bytes](), set[str]()
        for record in records:
            try:
                key, partition = _read(record)
            except InvalidInput as error:
                REFUSED_RECORDS.labels(topic, "list").inc()
                log.warning("record_refused", topic=topic, offset=record.offset, message=str(error))
                continue
            row = key + b"\0" + struct.pack(">I", partition)
            if record.value is None:
                batch.delete(TRENDING, row)
            else:
                batch.put(TRENDING, row, record.value)
            changed.add(key)
            tenants.add(split_key(key)[0])
        offsets = self._store.next_offsets(topic)
        offsets |= {record.partition: record.offset + 1 for record in records}
        put_offsets(batch, topic, offsets)
        batch.write()
        for key in changed:
            self._rankings.drop(key)
        self._on_change(tenants)


def _read(record: Record) -> tuple[bytes, int]:
    """Return the list's key, tenant/category, and its partition of rec.events."""
    if record.value is None:
        tenant, category, *partition = [*split_key(record.key), ""][:3]
        number = int(partition[0]) if partition[0].isdecimal() else record.partition
        return compose_key(tenant, category), number
    try:
        entry = TrendingList.FromString(record.value)
    except DecodeError as error:
        raise InvalidInput("the value is no TrendingList") from error
    if entry.partition < 0:
        raise InvalidInput(f"partition {entry.partition} is negative")
    return compose_key(checked_tenant(entry.tenant), entry.category), entry.partition
