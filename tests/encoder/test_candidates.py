from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.candidates import Candidates, draw
from encoder.evaluate import Served, evaluate_scores
from encoder.items import ItemStates
from encoder.objective import Encoded
from encoder.run_folder import RunFolder
from encoder.samples import NO_ITEM, Sampling, make_batch
from encoder.splits import leave_one_out
from encoder.train import train
from tests.encoder.test_samples import history
from tests.encoder.test_train import RECIPE, TEXTS, walkers
from tests.encoder.tiny import CONFIG

N_ITEMS = 200
SAMPLING = Sampling(n_windows=2, n_samples=3, n_targets=4, rows_a_batch=4)
CODES = np.zeros((N_ITEMS, CONFIG.n_levels), np.uint8)


def batch_of(*histories):
    return make_batch(histories, CODES, CONFIG, SAMPLING, np.random.default_rng(0))


def random_history(rng, share, n_events):
    return replace(history(n_events), item_rows=rng.choice(N_ITEMS, n_events, p=share))


@pytest.mark.parametrize("n_wanted", [N_ITEMS, N_ITEMS + 1])
def test_a_small_catalogue_is_taken_whole_and_nothing_is_corrected(n_wanted):
    batch = batch_of(history(20))

    found = draw([batch], np.ones(N_ITEMS, int), n_wanted, np.random.default_rng(0))

    assert found.rows.tolist() == list(range(N_ITEMS))
    assert not found.log_chance.any()
    assert torch.equal(found.placed(batch).targets, batch.targets)


@pytest.mark.parametrize("n_wanted", [2, 60, 199])
def test_all_items_of_the_batches_are_candidates_where_their_places_say(n_wanted):
    batches = [batch_of(history(20, first=30)), batch_of(history(9, first=150), history(3))]

    found = draw(batches, np.ones(N_ITEMS, int), n_wanted, np.random.default_rng(0))

    assert len(found) == max(n_wanted, 20 + 9 + 3)
    assert len(found.rows.unique()) == len(found)
    for batch in batches:
        placed = found.placed(batch)
        for name in ("next_rows", "window_rows", "targets"):
            rows, places = getattr(batch, name), getattr(placed, name)
            assert torch.equal(places == NO_ITEM, rows == NO_ITEM)
            assert torch.equal(found.rows[places[places >= 0]], rows[rows >= 0])


def test_a_softmax_over_a_draw_stands_for_the_one_over_the_catalogue():
    rng = np.random.default_rng(0)
    counts = (1000 / np.arange(1, N_ITEMS + 1)).astype(int)
    share = counts / counts.sum()
    scores = torch.from_numpy(np.log(counts) + rng.normal(size=N_ITEMS))  # popular ones score more
    totals, uncorrected = [], []
    for _ in range(400):
        batches = [batch_of(random_history(rng, share, 40)) for _ in range(2)]
        found = draw(batches, counts, 80, rng)
        totals.append((scores[found.rows] - found.log_chance).exp().sum())
        uncorrected.append(scores[found.rows].exp().sum() * N_ITEMS / len(found))

    total = scores.exp().sum()
    assert torch.stack(totals).mean() / total == pytest.approx(1, abs=0.05)
    assert torch.stack(uncorrected).mean() / total > 1.5


def test_what_follows_is_learned_from_a_draw_as_well(tmp_path):
    folder = RunFolder(tmp_path / "bundle")
    folder.claim({})
    split = leave_one_out(walkers(60))
    few = replace(RECIPE, n_candidates=16, rows_a_batch=2, tower_every=1)

    trained = train(TEXTS, split.histories, CONFIG, few, folder)

    served = Served(trained.bundle)
    found = evaluate_scores(split, lambda histories: served.scores(histories, refine=True))
    assert found["hr@5"] > 0.8  # by chance: 5 of the 13 items that are not seen


def test_scores_are_cosines_over_the_temperature_less_the_log_of_the_chance():
    candidates = Candidates(torch.tensor([3, 5, 8]), torch.tensor([0.0, -1.0, -2.0]))
    vectors = torch.nn.functional.normalize(torch.randn(3, 4), dim=-1)
    states = ItemStates(torch.zeros(3, 1, 2), torch.ones(3, 1, dtype=torch.bool), vectors)

    scores = Encoded.of(states, candidates).scores(vectors[None, :2], temperature=0.5)

    expected = 2 * vectors[:2] @ vectors.T + torch.tensor([0.0, 1.0, 2.0])
    torch.testing.assert_close(scores[0], expected)
