"""Candidates of K searches become one feed: a pure function, the same answer for the same input.

1. Score. An item's score is its largest dot product over the K interests, and the interest that
   gives it is the item's own.
2. New items. Of the first p places at least floor(new_share * p) hold new ones, as far as there
   are some: nobody has clicked them yet, so nothing else would bring them up.
3. Quota. Each other place is given to an interest by the highest averages of Sainte-Lague: to the
   one with the greatest weight / (2 * places so far + 1) that still has items. So each beginning
   of the feed, not only the whole, shares its places by weight.
4. Variety. The place takes that interest's (or the new) item with the greatest
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

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pick:
    row: int
    """Index into the candidates."""
    score: float
    interest: int
    nearest: float
    """Largest cosine to the items chosen before it; 0 for the first."""
    is_for_new: bool = False
    """Whether it has a place that was kept for new items."""


def merge(
    item_ids: Sequence[str],
    vectors: Floats,
    interests: Floats,
    weights: Sequence[float],
    *,
    n: int,
    diversity: float,
    are_new: Mask | None = None,
    new_share: float = 0.0,
) -> list[Pick]:
    """Choose at most n candidates, in the order of the feed.

    Costs n passes over the N candidates.

    Args:
        item_ids: N different ids.
        vectors: unit vectors of the candidates. (N, D)
        interests: (K, D)
        weights: K numbers, not negative; all zero counts as equal.
        diversity: 0 (scores only) to 1 (variety only).
        are_new: (N,); None for none.
        new_share: of the places, that new items have at least; 0 to 1.
    """
    if not item_ids or n <= 0:
        return []
    scores = vectors @ interests.T  # (N, K)
    order = np.lexsort((np.array(item_ids), -scores.max(axis=1)))  # the first of equals wins
    vectors, scores = vectors[order], scores[order]
    own = scores.argmax(axis=1)
    pool = _Pool(vectors, scores.max(axis=1), diversity)
    fresh = are_new[order] if are_new is not None else np.zeros(len(order), np.bool_)
    of_interest = [own == interest for interest in range(len(interests))]
    quota = _Quota(weights, [int(mine.sum()) for mine in of_interest])
    n_new, n_new_left = 0, int(fresh.sum())
    picks: list[Pick] = []
    for place in range(min(n, len(order))):
        is_for_new = n_new_left > 0 and n_new < int(new_share * (place + 1))
        row, nearest = pool.take(fresh if is_for_new else of_interest[quota.next()])
        interest = int(own[row])
        quota.give(interest)
        n_new, n_new_left = n_new + int(fresh[row]), n_new_left - int(fresh[row])
        score = float(scores[row, interest])
        picks.append(Pick(int(order[row]), score, interest, nearest, is_for_new))
    return picks


class _Pool:
    """Candidates that are left, and how near each is to those that were taken."""

    def __init__(self, vectors: Floats, scores: Floats, diversity: float) -> None:
        self._vectors, self._diversity = vectors, diversity
        self._value = (1 - diversity) * scores  # (N,), minus infinity once taken
        self._nearest = np.zeros(len(scores), np.float32)

    def take(self, eligible: Mask) -> tuple[int, float]:
        """Return the best row among some, and its largest cosine to those taken before."""
        gain = np.where(eligible, self._value - self._diversity * self._nearest, -np.inf)
        row = int(gain.argmax())
        nearest = float(self._nearest[row])
        self._value[row] = -np.inf
        np.maximum(self._nearest, self._vectors @ self._vectors[row], out=self._nearest)
        return row, nearest


class _Quota:
    """Highest averages over the interests that still have items."""

    def __init__(self, weights: Sequence[float], left: list[int]) -> None:
        self._shares = list(weights) if sum(weights) > 0 else [1.0] * len(weights)
        self._left = left
        self._places = [0] * len(left)

    def next(self) -> int:
        """Return whose turn it is: the first of equals."""
        averages = [
            share / (2 * places + 1) if left else -1.0
            for share, places, left in zip(self._shares, self._places, self._left, strict=True)
        ]
        return averages.index(max(averages))

    def give(self, interest: int) -> None:
        """Note that an interest has got a place."""
        self._places[interest] += 1
        self._left[interest] -= 1
