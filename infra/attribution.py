"""Scenario and variant as labels of counters: who asked for a feed, and which way it was made.

Both are words of callers, so each label is bounded: in length, at the door (`checked_tag`), and in
number, where it is counted (`PairLabels`): a counter has a series a label, for ever.

The first pairs that a process meets keep their names. A flood of forged ones can therefore hide a
new real one under "other" until a restart; it cannot fill the memory of the process, nor that of
Prometheus.
"""

from protos.errors import InvalidInput

MAX_TAG_BYTES = 64
N_PAIRS = 50
"""Pairs of scenario and variant with a series of their own, in one process."""
NONE = "none"
"""What an empty scenario or variant is called."""
OTHER = "other"


def is_tag(value: str) -> bool:
    """Tell whether a scenario or variant may be a label: printable, at most 64 bytes."""
    return value.isprintable() and len(value.encode()) <= MAX_TAG_BYTES


def checked_tag(value: str, field: str) -> str:
    """Return a scenario or variant as it is. Raises InvalidInput naming the field."""
    if not is_tag(value):
        raise InvalidInput(
            f"{field} {value[:MAX_TAG_BYTES]!r} is no label; give at most {MAX_TAG_BYTES} bytes of "
            "printable characters"
        )
    return value


class PairLabels:
    """Gives each pair of scenario and variant its labels. Not thread-safe."""

    def __init__(self, n_pairs: int = N_PAIRS) -> None:
        self._n_pairs = n_pairs
        self._known: set[tuple[str, str]] = set()

    def of(self, scenario: str, variant: str) -> tuple[str, str]:
        """Return the two labels of a pair; ("other", "other") for one too many, or unfit."""
        pair = scenario or NONE, variant or NONE
        if pair not in self._known:
            if len(self._known) >= self._n_pairs or not (is_tag(scenario) and is_tag(variant)):
                return OTHER, OTHER
            self._known.add(pair)
        return pair
