"""Where the milliseconds went: the hops of a state as durations (design section 1)."""

from collections.abc import Iterable
from itertools import pairwise

from protos.rec.v1 import interests_pb2


def hop_durations(
    hops: Iterable[interests_pb2.Hop], *, received_us: int | None = None
) -> dict[str, float]:
    """Return the milliseconds each hop took, by the name of the point that it reached, in order.

    Each hop is measured from the point before it; the first point is where the clock starts and
    has no duration of its own. Wall clocks of one host: across hosts their skew is in the figures.

    Args:
        received_us: when the reader had the answer, in microseconds since the epoch; adds the hop
            "delivered".
    """
    points = [(hop.name, hop.at_us) for hop in hops]
    if received_us is not None:
        points.append(("delivered", received_us))
    return {name: (at_us - before_us) / 1000 for (_, before_us), (name, at_us) in pairwise(points)}
