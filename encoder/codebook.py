"""Residual cosine codebook: an embedding as Q bytes (HyMiRec, arXiv 2510.13738).

At level q, balanced k-means of the residuals by cosine; code = argmax cos(residual, centre); the
residual loses its projection on the centre, so with exact projections the error never grows. The
decoder does not know an item's projections: it multiplies each centre by the mean projection of the
items that chose it. So Q codes decode to one vector in every process.

The version is a hash of the content (encoder/bundle.py): a model is trained on the decoded vectors
of one codebook, and codes of two codebooks never mix.

Shapes: N items, D embedding, Q levels, C centres.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoder.progress import OnCount, uncounted

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

N_ROUNDS = 12
N_CHOICES = 16
"""Centres that a point tries one by one, before all that have room are looked at."""
BALANCE = 1.5
"""No centre may hold more than this many times its fair share while k-means runs."""


@dataclass(frozen=True, slots=True)
class Codebook:
    centres: Floats  # (Q, C, D), unit length
    magnitudes: Floats  # (Q, C), mean projection of the items that chose the centre

    def encode(self, embeddings: Floats) -> Codes:
        """(N, D) -> (N, Q)"""
        return np.stack([codes for codes, _, _ in self.levels(embeddings)], axis=1)

    def levels(self, embeddings: Floats) -> list[tuple[Codes, Floats, Floats]]:
        """Return per level: codes (N,), projections (N,), and residuals (N, D) after it."""
        out = []
        residual = embeddings.astype(np.float32)
        for centres in self.centres:
            sims = residual @ centres.T  # (N, C); the norm of a residual changes no argmax
            codes = sims.argmax(axis=1)
            projections = sims[np.arange(len(codes)), codes]
            residual = residual - projections[:, None] * centres[codes]
            out.append((codes.astype(np.uint8), projections, residual))
        return out

    def decode(self, codes: Codes, n_levels: int | None = None) -> Floats:
        """(N, Q) -> (N, D), from the first `n_levels` codes."""
        n_levels = len(self.centres) if n_levels is None else n_levels
        level = np.arange(n_levels)
        centres = self.centres[level, codes[:, :n_levels]]  # (N, q, D)
        magnitudes = self.magnitudes[level, codes[:, :n_levels]]  # (N, q)
        decoded: Floats = np.einsum("nq,nqd->nd", magnitudes, centres)
        return decoded


def fit_codebook(
    embeddings: Floats,
    *,
    n_levels: int,
    n_centres: int,
    seed: int = 0,
    progress: OnCount = uncounted,
) -> Codebook:
    """Fit on the embeddings of all items, (N, D), unit length; fewer items than centres will do.

    Args:
        progress: hears of the rounds of k-means, of all levels.
    """
    rng = np.random.default_rng(seed)
    residual = embeddings.astype(np.float32)
    all_centres, all_magnitudes = [], []
    for level in range(n_levels):

        def say(n_rounds: int, before: int = level * N_ROUNDS) -> None:
            progress(before + n_rounds, n_levels * N_ROUNDS)

        centres = _balanced_kmeans(unit(residual), n_centres, rng, say)
        sims = residual @ centres.T
        codes = sims.argmax(axis=1)
        projections = sims[np.arange(len(codes)), codes]
        sums = np.bincount(codes, weights=projections, minlength=n_centres)
        counts = np.bincount(codes, minlength=n_centres)
        all_magnitudes.append((sums / np.maximum(counts, 1)).astype(np.float32))
        all_centres.append(centres)
        residual = residual - projections[:, None] * centres[codes]
    return Codebook(np.stack(all_centres), np.stack(all_magnitudes))


def _balanced_kmeans(
    points: Floats, n_centres: int, rng: np.random.Generator, on_round: Callable[[int], None]
) -> Floats:
    """Spherical k-means in which a full centre passes its least similar points on."""
    n = len(points)
    picks = rng.permutation(n)[:n_centres]
    centres = points[picks]
    if n < n_centres:  # Spare centres that no item needs yet; a new item may.
        spare = rng.standard_normal((n_centres - n, points.shape[1])).astype(np.float32)
        centres = np.concatenate([centres, spare])
    centres = unit(centres)
    capacity = max(1, int(np.ceil(BALANCE * n / n_centres)))
    for done in range(N_ROUNDS):
        assigned = _assign_balanced(points @ centres.T, capacity)
        sums = np.zeros_like(centres)
        np.add.at(sums, assigned, points)
        is_used = np.bincount(assigned, minlength=n_centres) > 0
        centres = np.where(is_used[:, None], unit(sums), centres)
        on_round(done + 1)
    return centres


def _assign_balanced(sims: Floats, capacity: int) -> npt.NDArray[np.int64]:
    """Give each point its most similar centre that still has room, the surest points first.

    Args:
        sims: (N, C)
        capacity: of a centre; there is room for all points.
    """
    n_centres = sims.shape[1]
    choices = np.argsort(-sims, axis=1)[:, :N_CHOICES]
    order = np.argsort(-sims.max(axis=1))
    room = np.full(n_centres, capacity)
    assigned = np.empty(len(sims), np.int64)
    for point in order:
        centre = next((one for one in choices[point] if room[one] > 0), None)
        if centre is None:
            centre = np.where(room > 0, sims[point], -np.inf).argmax()
        assigned[point] = centre
        room[centre] -= 1
    return assigned


def unit(vectors: Floats) -> Floats:
    """Return rows of length one; zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    return found
