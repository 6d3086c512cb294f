"""The figures of `freshet bench history` on what codes lose, by known cases."""

import numpy as np
import pytest

from encoder.bench.codes import (
    code_usage,
    exact_levels,
    mean_cosine,
    neighbour_recalls,
    synthetic_items,
    usage,
)
from encoder.codebook import fit_codebook


def test_nothing_lost_keeps_all_neighbours_and_everything_lost_next_to_none():
    rng = np.random.default_rng(0)
    vectors, others = (synthetic_items(500, 16, rng) for _ in range(2))
    queries = np.arange(100)

    assert (neighbour_recalls(vectors, vectors, queries) == 1).all()
    assert neighbour_recalls(vectors, others, queries).mean() < 0.1


@pytest.fixture(scope="module")
def fitted():
    """A codebook of 500 items, and 100 that it has not seen."""
    vectors = synthetic_items(600, 16, np.random.default_rng(0))
    return fit_codebook(vectors[:500], n_levels=3, n_centres=32), vectors[500:]


def test_each_level_brings_unseen_items_closer(fitted):
    book, vectors = fitted
    codes = book.encode(vectors)

    found = [mean_cosine(book.decode(codes, n), vectors) for n in (1, 2, 3)]

    assert found == sorted(found)
    assert found[0] < found[-1] < 1


def test_exact_magnitudes_are_projections_on_the_chosen_centres(fitted):
    book, vectors = fitted
    codes = book.encode(vectors)
    first = book.centres[0][codes[:, 0]]
    projections = (vectors * first).sum(axis=1, keepdims=True)

    levels = exact_levels(book, vectors)

    np.testing.assert_allclose(levels[0], projections * first, atol=1e-6)
    assert mean_cosine(levels[0], vectors) == mean_cosine(first, vectors)  # length says nothing


def test_an_items_own_magnitudes_lose_less_than_its_centres_mean(fitted):
    book, vectors = fitted
    queries = np.arange(50)

    exact, mean = exact_levels(book, vectors)[-1], book.decode(book.encode(vectors))

    assert ((vectors - exact) ** 2).sum() < ((vectors - mean) ** 2).sum()
    assert mean_cosine(exact, vectors) > mean_cosine(mean, vectors)
    of_exact, of_mean = (neighbour_recalls(vectors, one, queries).mean() for one in (exact, mean))
    assert of_exact >= of_mean


def test_usage_counts_even_codes_and_dead_centres():
    even = np.repeat(np.arange(4, dtype=np.uint8), 5)

    assert code_usage(even, n_centres=6) == (pytest.approx(4), 2)
    assert code_usage(np.zeros(9, np.uint8), n_centres=6) == (pytest.approx(1), 5)


def test_usage_is_told_by_level():
    codes = np.stack([np.repeat(np.arange(4), 5), np.zeros(20)], axis=1).astype(np.uint8)

    assert usage(codes, n_centres=6) == {"perplexity": [4, 1], "dead": [2, 5]}
