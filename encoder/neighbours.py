"""Items from their neighbours in histories: where training starts, and a baseline to beat.

Counts of items that stand near each other in users' histories, damped by distance. Factorised
(positive pointwise mutual information, SVD: Levy and Goldberg 2014), they give each item a vector
within a second, from which the model's item vectors start. Normalised by cosine, they are the
co-occurrence recommender of encoder/baselines.py.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import svds

from encoder.codebook import Floats
from encoder.histories import History
from encoder.progress import OnCount, uncounted

USERS_AT_ONCE = 1_000
"""Whose pairs are in memory together."""


def cooccurrence(
    histories: Sequence[History], n_items: int, *, reach: int, progress: OnCount = uncounted
) -> csr_array:
    """Return (N, N) counts of "b comes within `reach` events after a", each over sqrt(distance)."""
    found = csr_array((n_items, n_items))
    for begin in range(0, len(histories), USERS_AT_ONCE):
        found += _cooccurrence(histories[begin : begin + USERS_AT_ONCE], n_items, reach)
        progress(min(begin + USERS_AT_ONCE, len(histories)), len(histories))
    return found


def _cooccurrence(histories: Sequence[History], n_items: int, reach: int) -> csr_array:
    firsts, seconds, weights = [], [], []
    for history in histories:
        rows = history.item_rows
        for distance in range(1, min(reach, len(rows) - 1) + 1):
            firsts.append(rows[:-distance])
            seconds.append(rows[distance:])
            weights.append(np.full(len(rows) - distance, distance**-0.5))
    if not firsts:
        return csr_array((n_items, n_items))
    places = (np.concatenate(firsts), np.concatenate(seconds))
    return coo_array((np.concatenate(weights), places), shape=(n_items, n_items)).tocsr()


def item_factors(counts: csr_array, dim: int, seed: int = 0) -> Floats:
    """Return (N, dim) unit vectors whose cosines follow the shared information of items.

    Items without neighbours, and dimensions beyond the catalogue's rank, get small noise.
    """
    rng = np.random.default_rng(seed)
    both = (counts + counts.T).tocoo()
    totals = np.asarray(both.sum(axis=1)).ravel()
    expected = totals[both.row] * totals[both.col] / max(totals.sum(), 1e-9)
    information = np.maximum(np.log(both.data / expected), 0.0)
    matrix = csr_array((information, (both.row, both.col)), shape=both.shape)
    factors = 0.01 * rng.standard_normal((matrix.shape[0], dim))
    rank = min(dim, matrix.shape[0] - 1)
    if matrix.nnz and rank > 0:
        left, values, _ = svds(matrix, k=rank, v0=np.ones(matrix.shape[0]))
        factors[:, :rank] += left * np.sqrt(np.maximum(values, 0.0))
    norms = np.linalg.norm(factors, axis=1, keepdims=True)
    unit: Floats = (factors / np.maximum(norms, 1e-9)).astype(np.float32)
    return unit
