"""What is held out, and what may be known then.

    leave_one_out   each user's last event; everything before it is history
    last_events     each user's last few events, each from all before it; none may be learned from
    temporal        each user's first event after a moment, from what he did before it; nothing
                    after the moment may be learned from
    prequential     every event after a moment, from all of the user's events before it; the model
                    may learn from nothing after the moment, the history grows

A user's events are ordered by time, ties as in the file. Histories have at least one event.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.histories import Beginnings, History, Ints, lengths_of
from protos.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Split:
    histories: Sequence[History]
    """What is known of each case; at least one event."""
    targets: Sequence[int]
    """The item that comes next, as a row of the catalogue."""

    def __len__(self) -> int:
        return len(self.targets)


def leave_one_out(histories: Sequence[History]) -> Split:
    """Raises InvalidInput when nobody has two events."""
    return last_events(histories, 1)[1]


def last_events(histories: Sequence[History], n_last: int) -> tuple[Sequence[History], Split]:
    """Hold out the last `n_last` events of each user who has more.

    Returns what may be learned from, and the cases, user after user, `n_last` of each.

    Raises InvalidInput when nobody has enough events.
    """
    n_known = lengths_of(histories) - n_last
    usable = np.flatnonzero(n_known > 0)
    if not len(usable):
        events = "event" if n_last == 1 else "events"
        raise InvalidInput(f"no user has more than {n_last} {events}; nothing can be held out")
    n_known = n_known[usable]
    places = usable.repeat(n_last)
    cases = split_at(histories, places, (n_known[:, None] + np.arange(n_last)).ravel())
    return Beginnings(histories, usable, n_known), cases


def split_at(histories: Sequence[History], places: Ints, n_known: Ints) -> Split:
    """Hold out the event after the first `n_known` of each of these users."""
    pairs = zip(places, n_known, strict=True)
    targets = [int(histories[int(place)].item_rows[known]) for place, known in pairs]
    return Split(Beginnings(histories, places, n_known), targets)


def moment_of(histories: Sequence[History], share: float) -> int:
    """Return the time before which this share of all events happened, in ms."""
    n_events = int(lengths_of(histories).sum())
    wanted = min(n_events - 1, int(n_events * share))
    first = min(int(history.times_ms[0]) for history in histories)
    last = max(int(history.times_ms[-1]) for history in histories)
    times = range(first, last + 1)

    def n_until(time_ms: int) -> int:
        return int(_n_before(histories, time_ms + 1).sum())

    return times[bisect_right(times, wanted, key=n_until)]


def temporal(histories: Sequence[History], moment_ms: int) -> Split:
    """Raises InvalidInput when nobody has events before and after the moment."""
    n_known = _n_before(histories, moment_ms)
    usable = np.flatnonzero((n_known > 0) & (n_known < lengths_of(histories)))
    _refuse_none(len(usable), moment_ms)
    return split_at(histories, usable, n_known[usable])


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
    _refuse_none(len(cases), moment_ms)
    if limit is not None and len(cases) > limit:
        chosen = np.random.default_rng(seed).permutation(len(cases))[:limit]
        cases = [cases[place] for place in sorted(chosen)]
    cases.sort(key=lambda case: int(case[0].times_ms[case[2]]))
    return Split(
        [history.first(known) for history, known, _ in cases],
        [int(history.item_rows[place]) for history, _, place in cases],
    )


def before(histories: Sequence[History], moment_ms: int) -> Sequence[History]:
    """Return what may be learned from: events before the moment, of users who have any."""
    n_known = _n_before(histories, moment_ms)
    known = np.flatnonzero(n_known)
    return Beginnings(histories, known, n_known[known])


def _n_before(histories: Sequence[History], moment_ms: int) -> Ints:
    """Return (U,) how many events each user has before a moment."""
    return np.array([np.searchsorted(history.times_ms, moment_ms) for history in histories])


def _refuse_none(n_cases: int, moment_ms: int) -> None:
    if not n_cases:
        raise InvalidInput(
            f"no user has events before and after {moment_ms} ms; choose another moment"
        )
