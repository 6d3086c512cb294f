"""From how far a contestant had come, and when, to its speed. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from protos.errors import FreshetError


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a contestant."""

    at_s: float
    """On any clock that only goes forward."""
    n_events: int
    """Done with so far."""
    cpu_s: float
    """Processor time of its processes so far."""


@dataclass(frozen=True, slots=True)
class Speed:
    events_per_s: float
    events_per_cpu_s: float
    """Events a second of processor time: what a crowded machine changes least."""


def speed_of(samples: Sequence[Sample], n_events: int) -> Speed:
    """Return the speed between the first progress that was seen and the end.

    What came before the first progress (start, join, first fetch) counts on neither side.

    Args:
        samples: in the order of time.
        n_events: where the end is.

    Raises FreshetError when the samples do not show both.
    """
    first = next((one for one in samples if one.n_events > 0), None)
    last = next((one for one in samples if one.n_events >= n_events), None)
    if first is None or last is None or first.n_events == last.n_events:
        raise FreshetError("too few events to see a speed; measure with more")
    n_between = last.n_events - first.n_events
    # Processor time is counted in steps of 10 ms: a short run may show none.
    cpu_s = max(last.cpu_s - first.cpu_s, 0.01)
    return Speed(n_between / (last.at_s - first.at_s), n_between / cpu_s)


def median_speed(speeds: Sequence[Speed]) -> Speed:
    """Return the medians of both figures, each by itself."""
    return Speed(
        statistics.median(one.events_per_s for one in speeds),
        statistics.median(one.events_per_cpu_s for one in speeds),
    )
