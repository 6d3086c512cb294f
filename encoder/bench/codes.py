"""What codes lose: the encoder's part of `freshet bench history`, printed as one JSON line.

recall_ratio      HR@50 of the next item on MovieLens-1M: the light recommender that reads
                  codes, over the same one trained on full vectors; one budget
neighbour_recall  share of an item's ten nearest by full vectors that are among its ten nearest
                  by decoded ones; 100,000 synthetic items, a fifth of them unseen in fitting
cosine_by_level   of decoded to full vectors, items unseen in fitting
..._exact         the same if an item kept its own magnitude of each level, not rounded, in place
                  of its centre's mean: magnitudes of a few bits could not gain more
perplexity, dead  how evenly a level's codes are used, and centres without an item; of synthetic
                  items, and of the catalogue that recall_ratio is of
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from rich.console import Console

from encoder.bench.trial import judged, trained
from encoder.bench.variants import VARIANTS, LightOnly
from encoder.codebook import Codebook, Codes, Floats, fit_codebook, unit
from encoder.config import ModelConfig
from encoder.history_store import read_histories
from encoder.ranking import accuracy
from encoder.recipe import Recipe
from encoder.splits import leave_one_out
from encoder.start import Texts
from encoder.threads import use_threads
from infra.datasets import open_dataset

N_ITEMS, QUICK_ITEMS = 100_000, 10_000
N_TOPICS, SPREAD = 400, 0.6
SEEN_SHARE = 0.8
N_QUERIES, N_NEAREST = 1_000, 10

Places = npt.NDArray[np.int64]
RECIPE = Recipe(warm_epochs=7, epochs=1, validation_users=0, patience=0)

console = Console(stderr=True)


def measure(quick: bool) -> dict[str, object]:
    use_threads()
    return _codebook(QUICK_ITEMS if quick else N_ITEMS) | _recall_ratio(quick)


def _codebook(n_items: int) -> dict[str, object]:
    config = ModelConfig()
    rng = np.random.default_rng(0)
    vectors = synthetic_items(n_items, config.dim, rng)
    n_seen = int(n_items * SEEN_SHARE)
    with console.status(f"codebook of {n_seen:,} synthetic items"):
        book = fit_codebook(vectors[:n_seen], n_levels=config.n_levels, n_centres=config.n_centres)
        codes = book.encode(vectors)
    figures: dict[str, object] = {
        "block_bytes_per_event": round(config.block_bytes / config.segment_size, 2),
        "n_synthetic_items": n_items,
    }
    queries = rng.permutation(n_items)[:N_QUERIES]
    levels = [book.decode(codes, n) for n in range(1, config.n_levels + 1)]
    for name, found in (("", levels), ("_exact", exact_levels(book, vectors))):
        with console.status(f"neighbours of {N_QUERIES:,} synthetic items"):
            figures |= {key + name: one for key, one in _kept(vectors, found, queries, n_seen)}
    return figures | usage(codes[:n_seen], config.n_centres)


def _kept(
    vectors: Floats, levels: Sequence[Floats], queries: Places, n_seen: int
) -> Iterator[tuple[str, object]]:
    """Yield figures of what is left of vectors (N, D), decoded from one code, two and so on."""
    recalls = neighbour_recalls(vectors, unit(levels[-1]), queries)
    yield "neighbour_recall", round(float(recalls[queries < n_seen].mean()), 3)
    yield "neighbour_recall_unseen", round(float(recalls[queries >= n_seen].mean()), 3)
    yield "cosine_by_level", [mean_cosine(one[n_seen:], vectors[n_seen:]) for one in levels]


def _recall_ratio(quick: bool) -> dict[str, object]:
    dataset = open_dataset("ml-100k" if quick else "ml-1m")
    items, histories = read_histories(dataset)
    texts, split = Texts.of(items), leave_one_out(histories)
    recipe = RECIPE.quick() if quick else RECIPE
    found, bundles = {}, {}
    for name in ("hybrid", "full-vectors"):
        variant = replace(VARIANTS[name], objective=LightOnly, refined=False)
        with console.status(f"training: {'codes' if name == 'hybrid' else name}, {dataset.name}"):
            bundles[name] = trained(variant, texts, split.histories, recipe, ModelConfig())
            ranking = judged(variant, bundles[name], split)
        found[name] = float(accuracy(ranking.hits)["hr@50"].mean())
    coded = bundles["hybrid"]
    used = usage(coded.catalogue.codes, coded.config.n_centres)
    return {
        "recall_ratio": round(found["hybrid"] / found["full-vectors"], 4),
        "hr50_codes": round(found["hybrid"], 4),
        "hr50_full_vectors": round(found["full-vectors"], 4),
        "recall_on": dataset.name,
        **{f"catalogue_{name}": one for name, one in used.items()},
    }


def synthetic_items(n_items: int, dim: int, rng: np.random.Generator) -> Floats:
    """Return unit vectors round random topics, (N, dim)."""
    topics = rng.standard_normal((N_TOPICS, dim))
    own = topics[rng.integers(0, N_TOPICS, n_items)]
    return unit((own + SPREAD * rng.standard_normal((n_items, dim))).astype(np.float32))


def neighbour_recalls(vectors: Floats, decoded: Floats, queries: Places) -> Floats:
    """Return for each query the share of its nearest that stays, (queries,)."""
    true, found = (_nearest(space, queries) for space in (vectors, decoded))
    shares = [len(np.intersect1d(*pair)) / N_NEAREST for pair in zip(true, found, strict=True)]
    return np.array(shares, np.float32)


def _nearest(space: Floats, queries: Places) -> Places:
    sims = space[queries] @ space.T
    sims[np.arange(len(queries)), queries] = -np.inf
    return np.argpartition(-sims, N_NEAREST, axis=1)[:, :N_NEAREST]


def exact_levels(book: Codebook, vectors: Floats) -> list[Floats]:
    """Return after each level what codes say of vectors (N, D), if each item has its own
    projections: all but the residual."""
    return [vectors - residual for _, _, residual in book.levels(vectors)]


def mean_cosine(decoded: Floats, vectors: Floats) -> float:
    """Return that of decoded to full vectors, (N, D) of unit length."""
    return round(float((unit(decoded) * vectors).sum(axis=1).mean()), 4)


def usage(codes: Codes, n_centres: int) -> dict[str, list[int]]:
    """Return perplexity and dead centres of each level of codes (N, Q)."""
    found = [code_usage(level, n_centres) for level in codes.T]
    return {
        "perplexity": [round(perplexity) for perplexity, _ in found],
        "dead": [dead for _, dead in found],
    }


def code_usage(codes: Codes, n_centres: int) -> tuple[float, int]:
    """Return the perplexity of a level's codes, and how many are never used."""
    counts = np.bincount(codes, minlength=n_centres)
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum())), int((counts == 0).sum())


if __name__ == "__main__":
    print(json.dumps(measure("--quick" in sys.argv[1:])))
