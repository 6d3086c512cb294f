"""rec.events and rec.items as a data set: what `freshet export` writes, and training reads.

A row is an event that counts in its user's history: each once however often it was sent, in the
order of the log, none of an erased user from before the erasure. So a partition is read twice: for
its erasures, and then for its events, which are folded again (stream/refold.py) to know which ones
count. Memory: the heads of one partition's users, about 10 KB each at most.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa
from google.protobuf.message import DecodeError

from infra.datasets import EVENTS_SCHEMA
from infra.datasets.catalogue import CATALOGUE_SCHEMA
from protos.actions import actions_by_code, declared_actions
from protos.history import FoldEvent
from protos.rec.v1.events_pb2 import Event
from protos.rec.v1.items_pb2 import Item
from stream.folding import LogRecord
from stream.item_rows import row_of
from stream.refold import Deed, Refold, Refolded
from stream.validation import Place, events_by_name, validate

CHUNK_ROWS = 16_384
EXPORT_SCHEMA = pa.schema(
    [
        *EVENTS_SCHEMA,
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("accepted_ms", pa.int64(), nullable=False),
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("recommendation_id", pa.string(), nullable=False),
        pa.field("scenario", pa.string(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
    ]
)
"""The general form of events (infra/datasets), and what else is known of them."""

ReadPartition = Callable[[int], Iterable[LogRecord]]
"""Read a partition from its beginning to where the export ends; called twice each."""


@dataclass(slots=True)
class ExportReport:
    """What became of every event."""

    n_events: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """By reason: duplicate, erased, refused, impression. Whole records: unreadable, misplaced."""
    users: set[bytes] = field(default_factory=set)
    n_items: int = 0


def event_batches(
    read: ReadPartition,
    partitions: Iterable[int],
    n_partitions: int,
    tenant: str,
    report: ExportReport,
) -> Iterator[pa.RecordBatch]:
    """Iterate over the events of a tenant, partition by partition, as EXPORT_SCHEMA."""
    rows: list[dict[str, object]] = []
    for number in partitions:
        erased = erasures(read(number))
        refold = Refold(
            number, n_partitions, wanted=lambda said: said.tenant == tenant, keep_segments=False
        )
        for record in read(number):
            refolded = refold.apply(record)
            is_erased = record.offset < erased.get(refolded.said.user_key, -1)
            rows += _rows(refolded, record, report, is_erased=is_erased)
            if len(rows) >= CHUNK_ROWS:
                yield pa.RecordBatch.from_pylist(rows, EXPORT_SCHEMA)
                rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, EXPORT_SCHEMA)


def erasures(records: Iterable[LogRecord]) -> dict[bytes, int]:
    """Return the offset of each user's last erasure, by user key."""
    action_of = declared_actions().get
    found = {}
    for record in records:
        place = Place(record.topic, record.partition, record.offset, record.timestamp)
        said = validate(record.value, place, action_of, record.headers)
        if said.is_erasure:
            found[said.user_key] = record.offset
    return found


def _rows(
    refolded: Refolded, record: LogRecord, report: ExportReport, *, is_erased: bool
) -> Iterator[dict[str, object]]:
    said, folded = refolded.said, refolded.folded
    if refolded.deed in (Deed.UNREADABLE, Deed.MISPLACED):
        report.left_out[refolded.deed] += 1
    if folded is None or refolded.batch is None:
        return
    n_erased = folded.n_erased + (len(folded.applied) if is_erased else 0)
    counts = {
        "duplicate": folded.n_duplicates,
        "erased": n_erased,
        "refused": len(said.rejected),
        "impression": said.n_impressions,
    }
    report.left_out.update({reason: n for reason, n in counts.items() if n})
    if is_erased or not folded.applied:
        return
    place = Place(record.topic, record.partition, record.offset, record.timestamp)
    named = events_by_name(said, place, refolded.batch.events)
    report.users.add(said.user_key)
    report.n_events += len(folded.applied)
    for applied in folded.applied:
        yield _row(refolded.batch.user_id, applied, named[applied.event_id], record.timestamp)


def _row(user_id: str, applied: FoldEvent, event: Event, accepted_ms: int) -> dict[str, object]:
    return {
        "user_id": user_id,
        "item_id": applied.item_id,
        "event_time_ms": applied.event_time_ms,
        "action": actions_by_code()[applied.action].name,
        "value": event.value if event.HasField("value") else None,
        "event_id": applied.event_id,
        "accepted_ms": accepted_ms,
        "session_id": event.session_id,
        "recommendation_id": event.recommendation_id,
        "scenario": event.scenario,
        "variant": event.variant,
    }


def item_batches(
    records: Iterable[LogRecord], tenant: str, report: ExportReport
) -> Iterator[pa.RecordBatch]:
    """Iterate over a tenant's items as they are now, without deleted ones, as CATALOGUE_SCHEMA."""
    newest: dict[bytes, Item] = {}
    for record in records:
        key = record.key or b""
        newest.pop(key, None)
        if record.value is None:
            continue
        try:
            item = Item.FromString(record.value)
        except DecodeError:
            report.left_out["unreadable item"] += 1
            continue
        if item.item_id and (item.tenant or "default") == tenant:
            newest[key] = item
    report.n_items = len(newest)
    items = iter(newest.values())
    while rows := [row_of(item) for item in islice(items, CHUNK_ROWS)]:
        yield pa.RecordBatch.from_pylist(rows, CATALOGUE_SCHEMA)
