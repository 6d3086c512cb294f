"""Histories of any number of events, on disk: memory holds names, and two numbers a user.

    events, batch by batch --add--> log, in the order of the file
    log --build: counting sort by user, then each user by time--> columns, user after user

Both are files without a name, mapped into memory and gone with their owner.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from encoder import digests
from encoder.histories import NO_ITEMS, History, Ints, LazyHistories
from encoder.progress import OnCount, OnPart, named, uncounted, unheard
from infra.datasets import OpenDataset
from protos.actions import declared_actions
from protos.errors import InvalidInput
from protos.history import quantise_gap

EVENT = np.dtype([("user", "<u4"), ("item", "<u4"), ("time_ms", "<i8"), ("action", "u1")])
COLUMNS = {"item": "<i4", "action": "u1", "gap": "<u2", "time_ms": "<i8"}
EVENTS_AT_ONCE = 1_000_000
USERS_A_WORD = 1_000


@dataclass(frozen=True, slots=True)
class Kept:
    """How much of the data is in histories. Impressions are not counted."""

    n_events: int
    n_outside: int
    """Events on items that the catalogue does not have."""
    n_users: int
    n_too_short: int
    """Users with fewer than two events on items of the catalogue, those with none among them."""

    def remarks(self) -> list[str]:
        """Return what a reader of figures should know."""
        said = []
        if self.n_outside:
            said.append(
                f"{self.n_outside:,} of {self.n_events:,} events are on items outside the "
                "catalogue and are left out"
            )
        if self.n_too_short:
            said.append(
                f"{self.n_too_short:,} of {self.n_users:,} users have fewer than two events on "
                "items of the catalogue: nothing can be foretold of them"
            )
        return said


class Histories(LazyHistories):
    """All users, in the order of their ids."""

    def __init__(
        self, user_ids: Sequence[str], ends: Ints, columns: dict[str, npt.NDArray[Any]], kept: Kept
    ) -> None:
        """
        Args:
            ends: (U,) where each user's events end in the columns.
            columns: item, action, gap and time_ms, each (events,).
        """
        self._user_ids, self._ends, self._columns = user_ids, ends, columns
        self.kept = kept

    def __len__(self) -> int:
        return len(self._user_ids)

    def make(self, place: int) -> History:
        part = slice(self._ends[place - 1] if place else 0, self._ends[place])
        items, actions, gaps, times = (self._columns[name][part] for name in COLUMNS)
        return History(self._user_ids[place], items, actions, gaps, times)

    def digest(self, item_ids: Sequence[str]) -> str:
        """Return a hash of the events, whatever the order of the catalogue.

        Args:
            item_ids: of the catalogue.
        """
        hashes = np.array([xxhash.xxh3_64_intdigest(one.encode()) for one in item_ids], "<u8")
        digest = xxhash.xxh3_64(digests.of_texts(self._user_ids).encode())
        digest.update(self._ends.astype("<i8").tobytes())
        for name in ("item", "action", "time_ms"):
            column = self._columns[name]
            for begin in range(0, len(column), EVENTS_AT_ONCE):
                part = column[begin : begin + EVENTS_AT_ONCE]
                digest.update((hashes[part] if name == "item" else part).tobytes())
        return digest.hexdigest()


class HistoryBuilder:
    """Takes events in any order, and sorts them. A context manager."""

    def __init__(self, folder: Path | None = None) -> None:
        """
        Args:
            folder: on whose disk the files lie; None: the system's for temporary files.
        """
        self._folder = folder
        self._log = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed on exit
        self._users, self._items = _Names(), _Names()
        declared = declared_actions()
        self._action_names = pa.array(list(declared))
        entering = [(action.code, action.history) for action in declared.values()]
        self._action_codes, self._enters = map(np.array, zip(*entering, strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take events of EVENTS_SCHEMA, later than all before in the file. Impressions are left
        out."""
        actions = pc.index_in(batch["action"], self._action_names).to_numpy()
        events = np.zeros(batch.num_rows, EVENT)
        events["user"] = self._users.numbers(batch["user_id"])
        events["item"] = self._items.numbers(batch["item_id"])
        events["time_ms"] = batch["event_time_ms"].to_numpy()
        events["action"] = self._action_codes[actions]
        self._log.write(events[self._enters[actions]].tobytes())

    def build(self, item_ids: Sequence[str], progress: OnCount = uncounted) -> Histories:
        """Return the histories of the catalogue's items. Nothing is added after it.

        Args:
            progress: hears of the users.

        Raises InvalidInput when there are none, or no event is on one of them.
        """
        if not item_ids:
            raise InvalidInput(NO_ITEMS)
        row_of = self._items.places_in(item_ids)
        user_ids = sorted(self._users.names)
        order = self._users.places_in(user_ids)
        counts = np.zeros(len(user_ids), np.int64)
        for events in self._read(row_of):
            counts += np.bincount(order[events["user"]], minlength=len(counts))
        ends = counts.cumsum()
        if not counts.sum():
            raise InvalidInput("no event is on an item of the catalogue; check that the ids agree")
        columns = {name: self._column(int(ends[-1]), kind) for name, kind in COLUMNS.items()}
        free = ends - counts  # where the next event of each user goes
        for events in self._read(row_of):
            users = order[events["user"]]
            by_user = users.argsort(kind="stable")
            users = users[by_user]
            found, firsts, n_found = np.unique(users, return_index=True, return_counts=True)
            places = free[users] + np.arange(len(users)) - firsts.repeat(n_found)
            free[found] += n_found
            columns["item"][places] = row_of[events["item"]][by_user]
            columns["action"][places] = events["action"][by_user]
            columns["time_ms"][places] = events["time_ms"][by_user]
        for place, (begin, end) in enumerate(zip(ends - counts, ends, strict=True), 1):
            _sort({name: column[begin:end] for name, column in columns.items()})
            if place % USERS_A_WORD == 0 or place == len(ends):
                progress(place, len(ends))
        has_events = counts > 0
        known = [user for user, one in zip(user_ids, has_events, strict=True) if one]
        n_events = self._log.tell() // EVENT.itemsize
        kept = Kept(
            n_events=n_events,
            n_outside=n_events - int(counts.sum()),
            n_users=len(counts),
            n_too_short=int((counts < 2).sum()),
        )
        return Histories(known, ends[has_events], columns, kept)

    def _read(self, row_of: Ints) -> Iterator[npt.NDArray[Any]]:
        """Yield the log in parts, without items that are not in the catalogue."""
        self._log.seek(0)
        while part := self._log.read(EVENTS_AT_ONCE * EVENT.itemsize):
            events = np.frombuffer(part, EVENT)
            yield events[row_of[events["item"]] >= 0]

    def _column(self, n_events: int, kind: str) -> npt.NDArray[Any]:
        with tempfile.TemporaryFile(dir=self._folder) as file:
            return np.asarray(np.memmap(file, kind, "w+", shape=n_events))


class _Names:
    """Numbers for names, in the order in which they come."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}

    @property
    def names(self) -> Sequence[str]:
        return list(self._number_of)

    def numbers(self, names: pa.Array) -> Ints:
        encoded = names.dictionary_encode()
        known = self._number_of
        of_batch = [known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()]
        found: Ints = np.array(of_batch, np.int64)[encoded.indices.to_numpy()]
        return found

    def places_in(self, names: Sequence[str]) -> Ints:
        """Return where each number's name stands in `names`, -1 for nowhere."""
        place_of = {name: place for place, name in enumerate(names)}
        return np.array([place_of.get(name, -1) for name in self._number_of], np.int64)


def _sort(columns: dict[str, npt.NDArray[Any]]) -> None:
    """Order one user's events by time, ties as they are, and fill in the gaps."""
    times = columns["time_ms"]
    if not len(times):
        return
    order = times.argsort(kind="stable")
    for column in columns.values():
        column[:] = column[order]
    columns["gap"][0] = 0
    columns["gap"][1:] = [quantise_gap(gap) for gap in np.diff(times).tolist()]


def read_histories(
    dataset: OpenDataset,
    item_ids: Sequence[str] | None = None,
    folder: Path | None = None,
    on_part: OnPart = unheard,
) -> tuple[pa.Table, Histories]:
    """Read a data set; return its catalogue, and histories of its items or of those given.

    Raises InvalidInput when there are no items, or no event is on one of them.
    """
    n_read, n_bytes = 0, dataset.n_bytes

    def advance(n_more: int) -> None:
        nonlocal n_read
        n_read += n_more
        on_part("read, kB", n_read // 1000, n_bytes // 1000)

    dataset.hear(advance)
    with HistoryBuilder(folder) as builder:
        for batch in dataset.events():
            builder.add(batch)
        items = dataset.items()
        known = items["item_id"].to_pylist() if item_ids is None else item_ids
        return items, builder.build(known, named(on_part, "users"))
