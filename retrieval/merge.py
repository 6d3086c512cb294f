"""Candidates of K searches become one feed: a pure function, the same answer for the same input.

1. Score. An item's score is its largest dot product over the K interests, and the interest that
   gives it is the item's own.
2. Quota. Each place of the feed is given to an interest by the highest averages of Sainte-Lague:
   to the one with the greatest weight / (2 * places so far + 1) that still has items. So each
   beginning of the feed, not only the whole, shares its places by weight.
3. Variety. The place takes that interest's item with the greatest
   (1 - diversity) * score - diversity * (its largest cosine to the items already chosen):
   maximal marginal relevance (Carbonell and Goldstein 1998).

What must not be shown was dropped before; ties stand in the order of the ids.
Shapes: N candidates, K interests, D embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protos.vectors import Floats

POOL_PER_PLACE = 8
"""Candidates looked at for each place; what scores below these cannot gain enough by variety."""


@dataclass(frozen=True, slots=True)
class Pick:
    row: int
    """Index into the candidates."""
    score: float
    interest: int
    nearest: float
    """Largest cosine to the items chosen before it; 0 for the first."""


def merge(
    item_ids: Sequence[str],
    vectors: Floats,
    interests: Floats,
    weights: Sequence[float],
    *,
    n: int,
    diversity: float,
) -> list[Pick]:
    """Choose at most n candidates, in the order of the feed.

    Args:
        item_ids: N different ids.
        vectors: unit vectors of the candidates. (N, D)
        interests: (K, D)
        weights: K numbers, not negative; all zero counts as equal.
        diversity: 0 (scores only) to 1 (variety only).
    """
    if not item_ids or n <= 0:
        return []
    scores = vectors @ interests.T  # (N, K)
    best = scores.max(axis=1)  # (N,)
    order = np.lexsort((np.array(item_ids), -best))[: max(n * POOL_PER_PLACE, 100)]
    best, vectors, own = best[order], vectors[order], scores.argmax(axis=1)[order]
    left = np.bincount(own, minlength=len(interests))  # items of each interest still to be had
    quota = _Quota(weights, left)
    value = (1 - diversity) * best  # (N,), minus infinity once taken
    nearest = np.zeros(len(order), np.float32)
    picks: list[Pick] = []
    while len(picks) < min(n, len(order)):
        interest = quota.next_place()
        gain = np.where(own == interest, value - diversity * nearest, -np.inf)
        row = int(gain.argmax())
        picks.append(Pick(int(order[row]), float(best[row]), interest, float(nearest[row])))
        value[row] = -np.inf
        np.maximum(nearest, vectors @ vectors[row], out=nearest)
    return picks


class _Quota:
    """Highest averages over the interests that still have items."""

    def __init__(self, weights: Sequence[float], left: npt.NDArray[np.int64]) -> None:
        shares = np.array(weights, np.float64)
        self._shares = shares if shares.sum() > 0 else np.ones_like(shares)
        self._left = left.copy()
        self._places = np.zeros(len(shares), np.int64)

    def next_place(self) -> int:
        averages = self._shares / (2 * self._places + 1)
        interest = int(np.where(self._left > 0, averages, -1.0).argmax())
        self._places[interest] += 1
        self._left[interest] -= 1
        return interest
