"""The figures of `freshet bench history` on what codes lose, by known cases."""

import numpy as np
import pytest

from encoder.bench.codes import code_usage, cosines, neighbour_recalls, synthetic_items
from encoder.codebook import fit_codebook


def test_nothing_lost_keeps_all_neighbours_and_everything_lost_next_to_none():
    rng = np.random.default_rng(0)
    vectors, others = (synthetic_items(500, 16, rng) for _ in range(2))
    queries = np.arange(100)

    assert (neighbour_recalls(vectors, vectors, queries) == 1).all()
    assert neighbour_recalls(vectors, others, queries).mean() < 0.1


def test_each_level_brings_unseen_items_closer():
    vectors = synthetic_items(600, 16, np.random.default_rng(0))
    book = fit_codebook(vectors[:500], n_levels=3, n_centres=32)

    found = cosines(book, book.encode(vectors[500:]), vectors[500:])

    assert found == sorted(found)
    assert found[0] < found[-1] < 1


def test_usage_counts_even_codes_and_dead_centres():
    even = np.repeat(np.arange(4, dtype=np.uint8), 5)

    assert code_usage(even, n_centres=6) == (pytest.approx(4), 2)
    assert code_usage(np.zeros(9, np.uint8), n_centres=6) == (pytest.approx(1), 5)
