"""What codes lose: the encoder's part of `freshet bench history`, printed as one JSON line.

recall_ratio      HR@50 of the next item on MovieLens-1M: the light recommender that reads
                  codes, over the same one trained on full vectors; one budget
neighbour_recall  share of an item's ten nearest by full vectors that are among its ten nearest
                  by decoded ones; 100,000 synthetic items, a fifth of them unseen in fitting
cosine_by_level   of decoded to full vectors, items unseen in fitting
perplexity, dead  how evenly a level's codes are used, and centres without an item
"""

import json
import sys
from dataclasses import replace

import numpy as np
from rich.console import Console

from encoder.bench.trial import ranked
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
EPOCHS = Recipe(warm_epochs=7, epochs=1, validation_users=0, patience=0)

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
        decoded = unit(book.decode(codes))
    queries = rng.permutation(n_items)[:N_QUERIES]
    recalls = neighbour_recalls(vectors, decoded, queries)
    is_unseen = queries >= n_seen
    usage = [
        code_usage(codes[:n_seen, level], config.n_centres) for level in range(config.n_levels)
    ]
    return {
        "block_bytes_per_event": round(config.block_bytes / config.segment_size, 2),
        "n_synthetic_items": n_items,
        "neighbour_recall": round(float(recalls[~is_unseen].mean()), 3),
        "neighbour_recall_unseen": round(float(recalls[is_unseen].mean()), 3),
        "cosine_by_level": cosines(book, codes[n_seen:], vectors[n_seen:]),
        "perplexity": [round(perplexity) for perplexity, _ in usage],
        "dead": [dead for _, dead in usage],
    }


def _recall_ratio(quick: bool) -> dict[str, object]:
    dataset = open_dataset("ml-100k" if quick else "ml-1m")
    items, histories = read_histories(dataset)
    texts, split = Texts.of(items), leave_one_out(histories)
    recipe = EPOCHS.quick() if quick else EPOCHS
    found = {}
    for name in ("hybrid", "full-vectors"):
        variant = replace(VARIANTS[name], objective=LightOnly, refined=False)
        with console.status(f"training: {'codes' if name == 'hybrid' else name}, {dataset.name}"):
            ranking = ranked(variant, texts, split.histories, split, recipe, ModelConfig())
        found[name] = float(accuracy(ranking.hits)["hr@50"].mean())
    return {
        "recall_ratio": round(found["hybrid"] / found["full-vectors"], 4),
        "hr50_codes": round(found["hybrid"], 4),
        "hr50_full_vectors": round(found["full-vectors"], 4),
        "recall_on": dataset.name,
    }


def synthetic_items(n_items: int, dim: int, rng: np.random.Generator) -> Floats:
    """Return unit vectors round random topics, (N, dim)."""
    topics = rng.standard_normal((N_TOPICS, dim))
    own = topics[rng.integers(0, N_TOPICS, n_items)]
    return unit((own + SPREAD * rng.standard_normal((n_items, dim))).astype(np.float32))


def neighbour_recalls(vectors: Floats, decoded: Floats, queries: np.ndarray) -> Floats:
    """Return for each query the share of its nearest that stays, (queries,)."""
    true, found = (_nearest(space, queries) for space in (vectors, decoded))
    shares = [len(np.intersect1d(*pair)) / N_NEAREST for pair in zip(true, found, strict=True)]
    return np.array(shares, np.float32)


def _nearest(space: Floats, queries: np.ndarray) -> np.ndarray:
    sims = space[queries] @ space.T
    sims[np.arange(len(queries)), queries] = -np.inf
    return np.argpartition(-sims, N_NEAREST, axis=1)[:, :N_NEAREST]


def cosines(book: Codebook, codes: Codes, vectors: Floats) -> list[float]:
    """Return the mean cosine to the full vectors after each level."""
    return [
        round(float((unit(book.decode(codes, n)) * vectors).sum(axis=1).mean()), 4)
        for n in range(1, codes.shape[1] + 1)
    ]


def code_usage(codes: Codes, n_centres: int) -> tuple[float, int]:
    """Return the perplexity of a level's codes, and how many are never used."""
    counts = np.bincount(codes, minlength=n_centres)
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum())), int((counts == 0).sum())


if __name__ == "__main__":
    print(json.dumps(measure("--quick" in sys.argv[1:])))
