"""What is held out, and what may be known then.

    leave_one_out   each user's last event; everything before it is history
    temporal        each user's first event after a moment, from what he did before it; nothing
                    after the moment may be learned from
    prequential     every event after a moment, from all of the user's events before it; the model
                    may learn from nothing after the moment, the history grows

A user's events are ordered by time, ties as in the file. Histories have at least one event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from encoder.histories import History
from protos.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Split:
    histories: Sequence[History]
    """What is known of each case; at least one event."""
    targets: Sequence[int]
    """The item that comes next, as a row of the catalogue."""

    def __len__(self) -> int:
        return len(self.targets)


def leave_one_out(histories: Sequence[History], n_held: int = 1) -> Split:
    """Hold out the `n_held`-th event from the end of each user, and drop what comes after it.

    Raises InvalidInput when nobody has enough events.
    """
    usable = [history for history in histories if len(history) > n_held]
    if not usable:
        raise InvalidInput(f"no user has more than {n_held} events; nothing can be held out")
    return _split([(history, len(history) - n_held) for history in usable])


def moment_of(histories: Sequence[History], share: float) -> int:
    """Return the time before which this share of all events happened, in ms."""
    times = np.sort(np.concatenate([history.times_ms for history in histories]))
    return int(times[min(len(times) - 1, int(len(times) * share))])


def temporal(histories: Sequence[History], moment_ms: int) -> Split:
    """Raises InvalidInput when nobody has events before and after the moment."""
    cuts = [int(np.searchsorted(h.times_ms, moment_ms)) for h in histories]
    cases = [(h, cut) for h, cut in zip(histories, cuts, strict=True) if 0 < cut < len(h)]
    return _split(_some(cases, moment_ms))


def prequential(
    histories: Sequence[History], moment_ms: int, *, limit: int | None = None, seed: int = 0
) -> Split:
    """Return the events after the moment in the order of their times.

    Events of one moment are not known to each other: the history of each ends before the moment.

    Args:
        limit: at most so many cases, drawn at random.

    Raises InvalidInput when nobody has events before and after the moment.
    """
    cases: list[tuple[History, int, int]] = []
    for history in histories:
        for place in range(int(np.searchsorted(history.times_ms, moment_ms)), len(history)):
            known = int(np.searchsorted(history.times_ms, history.times_ms[place]))
            if known:
                cases.append((history, known, place))
    _some(cases, moment_ms)
    if limit is not None and len(cases) > limit:
        chosen = np.random.default_rng(seed).permutation(len(cases))[:limit]
        cases = [cases[place] for place in sorted(chosen)]
    cases.sort(key=lambda case: int(case[0].times_ms[case[2]]))
    return Split(
        [history.first(known) for history, known, _ in cases],
        [int(history.item_rows[place]) for history, _, place in cases],
    )


def before(histories: Sequence[History], moment_ms: int) -> list[History]:
    """Return what may be learned from: events before the moment, of users who have any."""
    cut = [h.first(int(np.searchsorted(h.times_ms, moment_ms))) for h in histories]
    return [history for history in cut if len(history)]


def _split(cases: Sequence[tuple[History, int]]) -> Split:
    return Split(
        [history.first(known) for history, known in cases],
        [int(history.item_rows[known]) for history, known in cases],
    )


def _some(cases: Sequence[T], moment_ms: int) -> Sequence[T]:
    if not cases:
        raise InvalidInput(
            f"no user has events before and after {moment_ms} ms; choose another moment"
        )
    return cases
