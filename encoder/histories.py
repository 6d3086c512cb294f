"""Users' histories as arrays, from the tables that infra.datasets returns.

A user's events are ordered by time; ties keep the order of the file (stable sort). Leave-one-out:
the last event of a user is the test target, everything before it is history.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from protos.actions import declared_actions
from protos.errors import InvalidInput
from protos.history import quantise_gap

Ints = npt.NDArray[np.int64]


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


def read_histories(events: pa.Table, item_ids: Sequence[str]) -> list[History]:
    """Group events by user. Events on items outside the catalogue and impressions are left out.

    Raises InvalidInput when nothing is left.
    """
    rows_of = {item_id: row for row, item_id in enumerate(item_ids)}
    declared = declared_actions()
    rows = np.array([rows_of.get(item, -1) for item in events["item_id"].to_pylist()], np.int64)
    actions = [declared[name] for name in events["action"].to_pylist()]
    enters = np.array([action.history for action in actions], bool) & (rows >= 0)
    codes = np.array([action.code for action in actions], np.uint8)
    times = events["event_time_ms"].to_numpy()
    names, users = np.unique(np.array(events["user_id"].to_pylist()), return_inverse=True)
    order = np.lexsort((times, users))  # stable: ties in the order of the file
    order = order[enters[order]]
    if not len(order):
        raise InvalidInput("no event is on an item of the catalogue; check that the ids agree")
    cuts = np.flatnonzero(np.diff(users[order])) + 1
    return [
        _history(str(names[users[places[0]]]), rows[places], codes[places], times[places])
        for places in np.split(order, cuts)
    ]


def met_items(histories: Sequence[History], n_items: int) -> npt.NDArray[np.bool_]:
    """Return (N,), whether anybody has an event on the item."""
    is_met = np.zeros(n_items, np.bool_)
    for history in histories:
        is_met[history.item_rows] = True
    return is_met


def _history(user_id: str, rows: Ints, actions: npt.NDArray[np.uint8], times: Ints) -> History:
    gaps = [0, *(quantise_gap(int(gap)) for gap in np.diff(times))]
    return History(user_id, rows, actions, np.array(gaps, np.uint16), times)
