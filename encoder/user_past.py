"""What a refresh leaves to the user's next one, and how much of it is good for that.

Nothing of it is trusted by name: it holds what it was computed from, and is good as far as the next
state begins with the same. It is never changed; who goes on makes another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from encoder.items import ItemState
from protos.segments import Columns


@dataclass(frozen=True, slots=True)
class SegmentPast:
    """Of an open segment."""

    digests: Sequence[bytes]
    """Of the blocks that it reads, oldest first."""
    segment: Columns
    states: Tensor  # (layers, 2, H, n, head width): keys and values of its events

    def shared(self, digests: Sequence[bytes], segment: Columns) -> Tensor | None:
        """Return the states of the first events that are the same, but never of the newest: queries
        start from it. None where there are none."""
        if list(self.digests) != list(digests):
            return None
        n = min(len(self.segment.actions), len(segment.actions) - 1)
        for name in ("codes", "coded", "actions", "gaps"):
            n = _n_equal(getattr(self.segment, name), getattr(segment, name), n)
        return self.states[:, :, :, :n] if n > 0 else None


@dataclass(frozen=True, slots=True)
class WindowPast:
    """Of a window of recent items."""

    items: Sequence[ItemState]
    states: Tensor  # (layers, 2, H, n * t, head width): keys and values of their tokens

    def n_shared(self, items: Sequence[ItemState]) -> int:
        """Count the first items that are the same, but never the newest."""
        n = min(len(self.items), len(items) - 1)
        pairs = zip(self.items[:n], items, strict=False)
        return next((place for place, (one, other) in enumerate(pairs) if one is not other), n)


@dataclass(frozen=True, slots=True)
class UserPast:
    segment: SegmentPast
    window: WindowPast | None

    @property
    def nbytes(self) -> int:
        tensors = [self.segment.states] + ([self.window.states] if self.window else [])
        return sum(one.nbytes for one in tensors)


def _n_equal(ours: np.ndarray, theirs: np.ndarray, n: int) -> int:
    """Count the first rows that are the same, at most n."""
    if n <= 0:
        return 0
    if ours[:n].tobytes() == theirs[:n].tobytes():
        return n
    differs = (ours[:n] != theirs[:n]).reshape(n, -1).any(axis=1)
    return int(differs.argmax())
