"""Send a data set into Kafka as if its users acted now: in time order, at a chosen pace.

An event is named after its row (`<data set>-<row>`, counted in the file's order), whatever part of
the data is sent. So sending it a second time changes nothing among a user's newest 64 events; older
ones the stream has forgotten by name, and a whole second replay would count them again. Continue an
interrupted one with `skip` instead.

Events of equal time keep the file's order. With several events a record, those of one user within a
window of consecutive events go together: each user's order stays, the order between users does not
(nothing depends on it).

Memory: the two tables, one window of events as Python values (50 MB at most), and the writer's
bounded buffer.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.datasets import Dataset
from protos.rec.v1.events_pb2 import Event, Receipt
from protos.rec.v1.items_pb2 import Item
from stream.item_publisher import ItemPublisher
from stream.item_rows import item_of
from stream.kafka_writer import Written
from stream.producer import Producer

WINDOW_EVENTS = 8_192
BACKFILL_WINDOW_EVENTS = 131_072
"""With several events a record: many people act at once, and in MovieLens-1M 50 events of one user
spread over some 60,000 of all."""
OnSent = Callable[[int], None]
"""Told how many more were handed over."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which events of a data set, counted in time order."""

    until: float = 1.0
    """The first share of them, 0 to 1."""
    skip: int = 0
    limit: int | None = None
    n_users: int | None = None
    """Only the users who come first."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When an event is due. None of them: at once."""

    speed: float | None = None
    """Times as fast as the data."""
    events_per_s: float | None = None

    def due_s(self, place: int, elapsed_ms: int) -> float:
        """Return the seconds after the start at which an event is due.

        Args:
            place: which event, from 0.
            elapsed_ms: its event time, counted from the first event's.
        """
        if self.events_per_s:
            return place / self.events_per_s
        return elapsed_ms / 1000 / self.speed if self.speed else 0.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to send."""

    user_id: str
    events: list[Event]
    due_s: float
    is_boundary: bool
    """All events before it in the order of `select` have been sent, and none after it."""


def select(dataset: Dataset, part: Part) -> pa.Table:
    """Return the wanted events in time order, with their row in the file as `row`."""
    events = dataset.events
    order = np.argsort(events["event_time_ms"].to_numpy(), kind="stable")
    order = order[: int(len(order) * part.until)]
    chosen = events.take(order).append_column("row", pa.array(order.astype(np.int64)))
    if part.n_users is not None:
        users = pc.unique(chosen["user_id"]).slice(0, part.n_users)
        chosen = chosen.filter(pc.is_in(chosen["user_id"], users))
    return chosen.slice(part.skip, part.limit)


def shift_to(events: pa.Table, newest_ms: int) -> pa.Table:
    """Move all event times alike, so that the newest becomes `newest_ms`."""
    if not len(events):
        return events
    times = events["event_time_ms"]
    shifted = pc.add(times, newest_ms - pc.max(times).as_py())
    place = events.schema.get_field_index("event_time_ms")
    return events.set_column(place, events.schema.field(place), shifted)


def plan(events: pa.Table, name: str, pace: Pace, events_per_record: int = 1) -> Iterator[Outgoing]:
    """Return the records to send, in order; `events` comes from `select`."""
    first_ms = events["event_time_ms"][0].as_py() if len(events) else 0
    n_window = WINDOW_EVENTS if events_per_record == 1 else BACKFILL_WINDOW_EVENTS
    for start in range(0, len(events), n_window):
        window = events.slice(start, n_window).combine_chunks()
        made = _make_events(window, name)
        users = window["user_id"].to_pylist()
        for number, places in enumerate(_groups(users, events_per_record)):
            last = places[-1]
            due_s = pace.due_s(start + last, made[last].event_time_ms - first_ms)
            is_boundary = events_per_record == 1 or number == 0
            yield Outgoing(users[last], [made[place] for place in places], due_s, is_boundary)


def _make_events(window: pa.Table, name: str) -> list[Event]:
    columns = ("row", "item_id", "action", "event_time_ms", "value")
    cells = (window[column].to_pylist() for column in columns)
    return [
        Event(
            event_id=f"{name}-{row}",
            item_id=item_id,
            action=action,
            event_time_ms=time_ms or 1,  # 0 would mean now
            value=value,
        )
        for row, item_id, action, time_ms, value in zip(*cells, strict=True)
    ]


def _groups(users: Sequence[str], size: int) -> Iterator[Sequence[int]]:
    """Return the places in a window that go together: at most `size`, of one user. In the order of
    their last."""
    if size == 1:
        yield from ([place] for place in range(len(users)))
        return
    codes = pa.array(users).dictionary_encode().indices.to_numpy()
    order: npt.NDArray[np.intp] = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.diff(codes[order])) + 1
    groups = [
        of_user[start : start + size].tolist()
        for of_user in np.split(order, bounds)
        for start in range(0, len(of_user), size)
    ]
    yield from sorted(groups, key=lambda places: places[-1])


def make_items(items: pa.Table) -> Iterator[Item]:
    """Return the catalogue of a data set."""
    for batch in items.to_batches(max_chunksize=WINDOW_EVENTS):
        yield from map(item_of, batch.to_pylist())


class Failures:
    """The first failed delivery, found without keeping every future."""

    def __init__(self) -> None:
        self._first: BaseException | None = None

    def watch(self, delivery: Future[Receipt] | Future[Written]) -> None:
        delivery.add_done_callback(self._look)

    def check(self) -> None:
        """Raise the first failure there was."""
        if self._first is not None:
            raise self._first

    def _look(self, delivery: Future[Receipt] | Future[Written]) -> None:
        self._first = self._first or delivery.exception()


class Sender:
    """Hands records over as they fall due, and stops when told.

    `n_events` is how many events, counted as `select` orders them, have been handed over without a
    gap: what `skip` takes. After `finish` they are durable.
    """

    def __init__(
        self, producer: Producer, items: ItemPublisher, *, tenant: str, stop: threading.Event
    ) -> None:
        self._producer, self._items = producer, items
        self._tenant, self._stop = tenant, stop
        self._failures = Failures()
        self.n_items = self.n_events = self.n_records = 0

    def send_items(self, items: Iterable[Item], on_sent: OnSent) -> None:
        """Raises InvalidInput, Overloaded, or the first failed delivery's error."""
        for item in items:
            if self._stop.is_set():
                return
            self._failures.check()
            self._failures.watch(self._items.upsert_nowait(item, tenant=self._tenant))
            self.n_items += 1
            on_sent(1)

    def send_events(self, records: Iterable[Outgoing], on_sent: OnSent) -> None:
        """Raises as `send_items`."""
        start = time.monotonic()
        for record in records:
            wait_s = start + record.due_s - time.monotonic()
            if self._is_stopped(wait_s) and record.is_boundary:
                return
            self._failures.check()
            delivery = self._producer.publish_batch_nowait(
                record.user_id, record.events, tenant=self._tenant
            )
            self._failures.watch(delivery)
            self.n_events += len(record.events)
            self.n_records += 1
            on_sent(len(record.events))

    def finish(self) -> None:
        """Wait until all is durable. Raises the first failed delivery's error."""
        self._producer.flush()
        self._items.flush()
        self._failures.check()

    def _is_stopped(self, wait_s: float) -> bool:
        return self._stop.wait(wait_s) if wait_s > 0 else self._stop.is_set()
