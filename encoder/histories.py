"""Users' histories as arrays, and their beginnings.

A user's events are ordered by time; ties keep the order of the file (encoder/history_store.py).
Sequences of histories are made lazily wherever users may be many: a `History` is a look at columns,
which may lie on a disk.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]

NO_ITEMS = "the catalogue is empty; put a file of items (item_id, title) beside the events"


@dataclass(frozen=True, slots=True)
class History:
    """One user's events, oldest first."""

    user_id: str
    item_rows: Ints  # (n,) rows of the catalogue
    actions: npt.NDArray[np.uint8]  # (n,)
    gaps: npt.NDArray[np.uint16]  # (n,) as histories store them
    times_ms: Ints  # (n,)

    def __len__(self) -> int:
        return len(self.item_rows)

    def first(self, n_events: int) -> "History":
        return History(
            self.user_id,
            self.item_rows[:n_events],
            self.actions[:n_events],
            self.gaps[:n_events],
            self.times_ms[:n_events],
        )

    def last(self, n_events: int) -> "History":
        begin = max(0, len(self) - n_events)
        return History(
            self.user_id,
            self.item_rows[begin:],
            self.actions[begin:],
            self.gaps[begin:],
            self.times_ms[begin:],
        )


class LazyHistories(Sequence[History]):
    """Histories of which each is made when it is asked for."""

    @overload
    def __getitem__(self, place: int) -> History: ...
    @overload
    def __getitem__(self, place: slice) -> list[History]: ...
    def __getitem__(self, place: int | slice) -> History | list[History]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        return self.make(range(len(self))[place])

    @abstractmethod
    def make(self, place: int) -> History:
        """Return the history at a place from 0 on."""


class Beginnings(LazyHistories):
    """The first events of some histories."""

    def __init__(self, histories: Sequence[History], places: Ints, n_events: Ints) -> None:
        """
        Args:
            histories: of all users.
            places: (n,) which of them.
            n_events: (n,) how many events of each.
        """
        self._histories, self._places, self._n_events = histories, places, n_events

    def __len__(self) -> int:
        return len(self._places)

    def make(self, place: int) -> History:
        history = self._histories[int(self._places[place])]
        return history.first(int(self._n_events[place]))


def lengths_of(histories: Sequence[History]) -> Ints:
    """Return (U,) how many events each user has."""
    return np.array([len(history) for history in histories], np.int64)


def item_counts(histories: Sequence[History], n_items: int) -> Ints:
    """Return (N,) how many events each item has."""
    counts = np.zeros(n_items, np.int64)
    for history in histories:
        np.add.at(counts, history.item_rows, 1)
    return counts
