"""Ranked lists and what they are worth.

Accuracy is torchmetrics', a value a case, so that it can be averaged over any group of users and
compared in pairs. One item is relevant in each case, so HR@k is recall@k too.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG

from encoder.codebook import Floats
from encoder.histories import History
from encoder.splits import Split

TOP = 200
CUTS = (1, 5, 10, 50, 200)
CASES_AT_ONCE = 64
LIST = 10
"""Length of the lists whose diversity is measured."""

Score = Callable[[Sequence[History]], Floats]
"""(B) histories -> (B, N) scores"""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranking:
    tops: npt.NDArray[np.int64]  # (B, TOP) rows of items, best first; -1 beyond the catalogue
    targets: npt.NDArray[np.int64]  # (B,)

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        hits: npt.NDArray[np.bool_] = self.tops == self.targets[:, None]
        return hits


def rank(
    split: Split, score: Score, progress: Callable[[int], None] = lambda done: None
) -> Ranking:
    """Rank the whole catalogue for each case, items of its history left out."""
    tops = []
    for begin in range(0, len(split), CASES_AT_ONCE):
        some = split.histories[begin : begin + CASES_AT_ONCE]
        scores = score(some).astype(np.float64)
        for row, history in enumerate(some):
            scores[row, history.item_rows] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        is_left = np.isfinite(np.take_along_axis(scores, order, axis=1))
        tops.append(np.where(is_left, order, -1))
        progress(min(begin + CASES_AT_ONCE, len(split)))
    return Ranking(np.concatenate(tops), np.asarray(split.targets))


def accuracy(hits: npt.NDArray[np.bool_]) -> dict[str, Values]:
    """Return HR, NDCG and MRR at 1, 5, 10, 50, 200 of each case.

    Args:
        hits: (B, places), best place first; at most one True a row.
    """
    places = np.where(hits.any(axis=1), hits.argmax(axis=1), TOP)
    return {name: worth[np.minimum(places, TOP)] for name, worth in _worth_of_places().items()}


@cache
def _worth_of_places() -> dict[str, Values]:
    """Return each metric's value for a hit at each place, (TOP + 1,); the last one of a miss.

    torchmetrics goes through cases one by one. As one item is relevant in each, its place decides.
    """
    scores = torch.arange(TOP + 1, 0, -1.0).repeat(TOP + 1)  # the last place is beyond the lists
    cases = torch.arange(TOP + 1).repeat_interleave(TOP + 1)
    target = torch.eye(TOP + 1, dtype=torch.bool).flatten()
    found = {}
    for cut in CUTS:
        metrics = {
            "hr": RetrievalHitRate(top_k=cut, aggregation=_each),
            "ndcg": RetrievalNormalizedDCG(top_k=cut, aggregation=_each),
            "mrr": RetrievalMRR(top_k=cut, aggregation=_each),
        }
        for name, metric in metrics.items():
            found[f"{name}@{cut}"] = metric(scores, target, indexes=cases).double().numpy()
    return found


def _each(values: Tensor, dim: int | None = None) -> Tensor:
    """Keep the value of each case."""
    return values


def means(values: Mapping[str, Values]) -> dict[str, float]:
    return {name: round(float(one.mean()), 5) for name, one in values.items()}


def beyond_accuracy(ranking: Ranking, popularity: Values, embeddings: Floats) -> dict[str, float]:
    """Return coverage, novelty and intra-list diversity of the first ten.

    coverage@10   share of the catalogue that is in anybody's list
    novelty@10    mean of -log2 of an item's share of all events (one more each): bits
    diversity@10  mean over lists of 1 - cosine of its pairs

    Args:
        popularity: (N,) events of each item that could be learned from.
        embeddings: (N, D), unit length.
    """
    lists = ranking.tops[:, :LIST]
    shown = lists[lists >= 0]
    share = (popularity + 1) / (popularity + 1).sum()
    vectors = embeddings[lists.clip(0)] * (lists >= 0)[..., None]  # (B, LIST, D)
    counts = (lists >= 0).sum(axis=1)
    pairs = np.maximum(counts * (counts - 1), 1)
    sums = np.square(vectors.sum(axis=1)).sum(axis=1) - counts  # of the cosines of all pairs
    diversity = np.where(counts > 1, 1 - sums / pairs, 0.0)
    return {
        "coverage@10": round(len(np.unique(shown)) / len(popularity), 5),
        "novelty@10": round(float(-np.log2(share[shown]).mean()), 5),
        "diversity@10": round(float(diversity.mean()), 5),
    }


def by_group(
    values: Mapping[str, Values], of_case: npt.NDArray[np.float64], edges: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Return means by group: cases whose number lies below the first edge, between two, above.

    Args:
        of_case: (B,) what groups are made by: length of the history, popularity of the target.
        edges: growing.
    """
    bins = np.digitize(of_case, edges)
    names = [f"< {edges[0]:g}"]
    names += [f"{low:g}-{high - 1:g}" for low, high in itertools.pairwise(edges)]
    names += [f">= {edges[-1]:g}"]
    found = {}
    for place, name in enumerate(names):
        chosen = bins == place
        if chosen.any():
            some = {key: one[chosen] for key, one in values.items()}
            found[name] = {"n_cases": float(chosen.sum()), **means(some)}
    return found


def paired_bootstrap(ours: Values, theirs: Values, *, rounds: int = 2_000, seed: int = 0) -> Values:
    """Return the differences of means, (rounds,), over cases drawn again with replacement."""
    rng = np.random.default_rng(seed)
    differences = ours - theirs
    draws = rng.integers(0, len(differences), (rounds, len(differences)))
    found: Values = differences[draws].mean(axis=1)
    return found


def interval_of_difference(ours: Values, theirs: Values) -> tuple[float, float]:
    """Return between which ends the difference of means lies with 95 % confidence."""
    low, high = np.quantile(paired_bootstrap(ours, theirs), [0.025, 0.975])
    return float(low), float(high)
