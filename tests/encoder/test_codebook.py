import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.codebook import N_ROUNDS, Codebook, _assign_balanced, fit_codebook
from encoder.compute import NamedText
from encoder.items import NO_VECTOR
from encoder.settings import EncoderSettings
from encoder.texts import item_tokens
from encoder.worker import Worker
from protos.keys import text_digest
from tests.encoder.tiny import CONFIG


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


DECODER = """
import sys
from pathlib import Path
from safetensors.numpy import load_file
from encoder.codebook import Codebook

folder = Path(sys.argv[1])
saved = load_file(folder / "codebook.safetensors")
book = Codebook(saved["centres"], saved["magnitudes"])
codes = load_file(folder / "items.safetensors")["codes"]
sys.stdout.buffer.write(book.decode(codes).tobytes())
"""


def test_a_code_decodes_to_the_same_bytes_in_every_process(bundle_folder, bundle):
    decoded = [
        subprocess.run(
            [sys.executable, "-c", DECODER, str(bundle_folder)],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert decoded == [bundle.codebook.decode(bundle.catalogue.codes).tobytes()] * 2


def test_the_light_recommender_reads_what_the_codebook_decodes(bundle):
    book, codes = bundle.codebook, bundle.catalogue.codes
    table = bundle.model.light.decoded.numpy().reshape(book.centres.shape)  # (Q, C, D)

    read = table[np.arange(CONFIG.n_levels), codes].sum(axis=1)

    np.testing.assert_allclose(read, book.decode(codes), rtol=0, atol=1e-6)
    first = np.arange(CONFIG.n_centres, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(table[0], book.decode(first, n_levels=1))


async def test_a_new_item_gets_its_coders_codes_and_the_codebook_stays(bundle):
    centres, text = bundle.codebook.centres.copy(), "a pale thing that nobody has seen"
    tokens = map(torch.from_numpy, item_tokens(bundle.tokenizer, [text], CONFIG.max_item_tokens))
    tokens, no_vector = list(tokens), torch.tensor([NO_VECTOR])
    worker = Worker(bundle, EncoderSettings(max_cached_user_bytes=1))

    (found,) = await worker.encode([NamedText(("default", "new", text_digest(text)), text)], None)
    await worker.close()

    with torch.inference_mode():
        coded, served = (
            bundle.codebook.encode(tower(*tokens, no_vector).embeddings.numpy()).tobytes()
            for tower in (bundle.coder, bundle.model.tower)
        )
    assert found.known.codes == coded != served
    np.testing.assert_array_equal(bundle.codebook.centres, centres)


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
