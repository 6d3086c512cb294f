import numpy as np
import pytest

from encoder.evaluate import Served, evaluate_scores, leave_one_out
from encoder.histories import History
from encoder.recipe import Recipe
from encoder.train import Texts, train_bundle
from protos.errors import InvalidInput
from tests.encoder.tiny import CONFIG

RECIPE = Recipe(
    epochs=2, warm_epochs=2, coder_steps=10, n_samples=2, rows_a_batch=8, learning_rate=5e-3
)
TEXTS = Texts([f"i{n}" for n in range(24)], [f"thing number {n}" for n in range(24)])


def walkers(n_users, n_events=12):
    """Users who walk round a circle of 24 items, one step at a time."""
    starts = np.random.default_rng(0).integers(0, 24, n_users)
    return [
        History(
            f"u{user}",
            (start + np.arange(n_events)) % 24,
            np.ones(n_events, np.uint8),
            np.zeros(n_events, np.uint16),
            np.arange(n_events) * 1000,
        )
        for user, start in enumerate(starts)
    ]


def silent(step):
    """Nobody watches."""


def test_what_follows_is_learned_coarse_and_refined():
    split = leave_one_out(walkers(60))
    steps = []

    bundle, win_shares = train_bundle(TEXTS, split.histories, CONFIG, RECIPE, steps.append)

    served = Served(bundle)
    for refine in (False, True):
        found = evaluate_scores(
            split, lambda histories, r=refine: served.scores(histories, refine=r)
        )
        assert found["hr@5"] > 0.8  # by chance: 5 of the 13 items that are not seen
    assert sum(win_shares) == pytest.approx(1, abs=0.01)
    assert {step.stage for step in steps} == {"items", "warm-up", "all"}


def test_the_same_seed_gives_the_same_model():
    quick = Recipe(epochs=1, warm_epochs=1, coder_steps=2, rows_a_batch=8)

    first, second = (train_bundle(TEXTS, walkers(10), CONFIG, quick, silent)[0] for _ in range(2))

    np.testing.assert_array_equal(first.catalogue.embeddings, second.catalogue.embeddings)
    np.testing.assert_array_equal(first.catalogue.codes, second.catalogue.codes)


@pytest.mark.parametrize(
    ("texts", "histories", "reason"),
    [
        (Texts([], []), walkers(2), "catalogue is empty"),
        (Texts(["a", "a"], ["x", "y"]), walkers(2), "names an item twice"),
        (TEXTS, walkers(3, n_events=1), "no user has two events"),
    ],
)
def test_data_that_cannot_be_learned_from_is_one_clear_error(texts, histories, reason):
    with pytest.raises(InvalidInput, match=reason):
        train_bundle(texts, histories, CONFIG, RECIPE, silent)
