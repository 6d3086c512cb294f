import itertools

import numpy as np
import pytest

from encoder.codebook import N_ROUNDS, Codebook, _assign_balanced, fit_codebook


def unit(n, dim, seed):
    """Points in clumps, as items are: most of the variance is shared."""
    rng = np.random.default_rng(seed)
    clumps = np.random.default_rng(7).standard_normal((12, dim))
    vectors = clumps[rng.integers(0, 12, n)] + 0.5 * rng.standard_normal((n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def codebook():
    return fit_codebook(unit(2000, 16, seed=0), n_levels=4, n_centres=32)


def test_with_exact_projections_the_error_never_grows(codebook):
    vectors = unit(500, 16, seed=1)

    errors = [
        np.linalg.norm(vectors, axis=1),
        *(np.linalg.norm(residual, axis=1) for _, _, residual in codebook.levels(vectors)),
    ]

    for before, after in itertools.pairwise(errors):
        assert (after <= before + 1e-6).all()


def test_the_decoders_mean_error_on_held_out_items_falls_at_each_level(codebook):
    vectors = unit(500, 16, seed=2)
    codes = codebook.encode(vectors)

    errors = [np.linalg.norm(vectors - codebook.decode(codes, q), axis=1).mean() for q in range(5)]

    assert errors == sorted(errors, reverse=True)
    assert len(set(errors)) == 5


def test_a_code_is_the_centre_of_the_greatest_cosine(codebook):
    vectors = unit(50, 16, seed=3)

    codes = codebook.encode(vectors)

    assert codes[:, 0].tolist() == (vectors @ codebook.centres[0].T).argmax(axis=1).tolist()
    assert codes.dtype == np.uint8


def test_decoding_adds_centres_times_magnitudes():
    centres = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]]], np.float32)
    codebook = Codebook(centres, np.array([[0.9, 0.8], [0.2, 0.1]], np.float32))

    decoded = codebook.decode(np.array([[0, 0], [1, 1]], np.uint8))

    np.testing.assert_allclose(decoded, [[0.9, 0.2], [0.1, 0.8]], rtol=1e-6)


def test_the_same_items_give_the_same_codebook():
    first, second = (fit_codebook(unit(300, 8, 0), n_levels=2, n_centres=16) for _ in range(2))

    np.testing.assert_array_equal(first.centres, second.centres)
    np.testing.assert_array_equal(first.magnitudes, second.magnitudes)


def test_fitting_says_how_far_it_is():
    said = []

    fit_codebook(
        unit(20, 8, 0), n_levels=3, n_centres=4, progress=lambda *words: said.append(words)
    )

    assert said == [(done + 1, 3 * N_ROUNDS) for done in range(3 * N_ROUNDS)]


def test_fewer_items_than_centres_are_told_apart():
    vectors = unit(10, 8, seed=4)
    codebook = fit_codebook(vectors, n_levels=2, n_centres=16)

    codes = codebook.encode(vectors)

    assert len(np.unique(codes, axis=0)) == 10
    np.testing.assert_allclose(codebook.decode(codes), vectors, atol=0.05)


def test_no_centre_holds_more_than_its_share_however_alike_the_points_are():
    """All points like the same 16 centres best, which have room for a quarter of them."""
    n, n_centres, capacity = 640, 64, 15
    noise = np.random.default_rng(0).random((n, n_centres))
    sims = (np.linspace(1, 0, n_centres) + 0.001 * noise).astype(np.float32)

    assigned = _assign_balanced(sims, capacity)

    counts = np.bincount(assigned, minlength=n_centres)
    assert counts.max() == capacity
    assert counts[:42].tolist() == [capacity] * 42, "the next best has room, not any"


def test_a_full_centre_passes_its_least_sure_points_on():
    sims = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], np.float32)

    assert _assign_balanced(sims, capacity=2).tolist() == [0, 0, 1]
