"""What a model must beat: popularity, and co-occurrence with the last items."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, diags_array

from encoder.codebook import Floats
from encoder.histories import History, item_counts
from encoder.neighbours import cooccurrence

LAST_ITEMS = 10
RECENCY = 0.8
"""Weight of an item against the one after it."""
REACH = 50
"""Events apart within which a pair counts, damped by distance. All four constants are the best of a
grid on MovieLens-100K's second to last items: reach 5 to all, last 1 to 10, recency .6 to 1."""


class Popularity:
    def __init__(self, histories: Sequence[History], n_items: int) -> None:
        self._counts = item_counts(histories, n_items).astype(np.float32)

    def scores(self, history: History) -> Floats:
        """(N,)"""
        return self._counts


class CoOccurrence:
    """Items that came after the user's last ones, by cosine: counts over sqrt(n_a * n_b)."""

    def __init__(self, histories: Sequence[History], n_items: int) -> None:
        counts = np.maximum(item_counts(histories, n_items), 1)
        norm = diags_array(counts**-0.5)
        found = cooccurrence(histories, n_items, reach=REACH)
        self._cosines: csr_array = (norm @ found @ norm).tocsr()

    def scores(self, history: History) -> Floats:
        """(N,)"""
        last = history.item_rows[-LAST_ITEMS:][::-1]
        weights = RECENCY ** np.arange(len(last))
        found: Floats = (weights @ self._cosines[last]).astype(np.float32)
        return found
