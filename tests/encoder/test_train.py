from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.evaluate import Served, evaluate_scores
from encoder.histories import History
from encoder.recipe import Recipe
from encoder.run_folder import RunFolder
from encoder.splits import leave_one_out
from encoder.start import Texts
from encoder.train import Story, Watch, train
from encoder.trainer import Trainer
from protos.errors import InvalidInput
from tests.encoder.tiny import CONFIG

RECIPE = Recipe(
    epochs=2,
    warm_epochs=2,
    coder_steps=10,
    n_samples=2,
    rows_a_batch=8,
    learning_rate=5e-3,
    validation_users=10,
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


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "bundle")
    folder.claim({})
    return folder


def test_what_follows_is_learned_coarse_and_refined(folder):
    split = leave_one_out(walkers(60))
    steps = []

    trained = train(
        TEXTS, split.histories, CONFIG, RECIPE, folder, watch=Watch(on_step=steps.append)
    )

    served = Served(trained.bundle)
    for refine in (False, True):
        found = evaluate_scores(
            split, lambda histories, r=refine: served.scores(histories, refine=r)
        )
        assert found["hr@5"] > 0.8  # by chance: 5 of the 13 items that are not seen
    assert {step.stage for step in steps} == {"warm-up", "all"}
    assert [epoch for epoch, _ in trained.story.validations] == [2, 3]


def test_every_step_is_taken_with_dropout_and_what_comes_out_is_without(folder, monkeypatch):
    modes = []
    step = Trainer._step

    def watched(trainer, *args):
        losses = step(trainer, *args)
        modes.append(trainer.model.training)
        return losses

    monkeypatch.setattr(Trainer, "_step", watched)
    trained = train(TEXTS, walkers(20), CONFIG, RECIPE, folder)

    assert modes
    assert all(modes)
    assert not trained.bundle.model.training


def test_an_item_that_nobody_has_met_has_no_vector_of_its_own(folder):
    texts = Texts([*TEXTS.item_ids, "new"], [*TEXTS.texts, "thing number 3 again"])

    trained = train(texts, walkers(20), CONFIG, RECIPE.quick(), folder)

    for tower in (trained.bundle.model.tower, trained.bundle.coder):
        vectors = tower.item_vectors.weight
        assert not vectors[24].any()
        assert vectors[:24].any(dim=1).all()


class Killed(BaseException):
    """As a signal would."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    whole = RunFolder(tmp_path_factory.mktemp("whole") / "bundle")
    whole.claim({})
    return train(TEXTS, walkers(40), CONFIG, RECIPE, whole)


@pytest.mark.parametrize("after", [1, 9, 16, 34])
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    uninterrupted, tmp_path, monkeypatch, after
):
    monkeypatch.setattr("encoder.train.CHECKPOINT_S", 0.0)
    expected = uninterrupted
    n_steps = 0

    def kill(step):
        nonlocal n_steps
        n_steps += 1
        if n_steps == after:
            raise Killed

    folder = RunFolder(tmp_path / "killed")
    folder.claim({})
    with pytest.raises(Killed):
        train(TEXTS, walkers(40), CONFIG, RECIPE, folder, watch=Watch(on_step=kill))
    torch.manual_seed(5)  # another process has drawn other numbers
    resumed = train(TEXTS, walkers(40), CONFIG, RECIPE, folder, watch=Watch(on_step=kill))

    for name, weight in expected.bundle.model.state_dict().items():
        torch.testing.assert_close(resumed.bundle.model.state_dict()[name], weight, rtol=0, atol=0)
    assert resumed.story.validations == expected.story.validations
    assert resumed.win_shares == expected.win_shares


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_a_gpu_that_was_killed_goes_on(folder, monkeypatch):
    monkeypatch.setattr("encoder.train.CHECKPOINT_S", 0.0)
    steps = []

    def kill(step):
        steps.append(step)
        if len(steps) == 13:  # a checkpoint is there, with wins in it
            raise Killed

    with pytest.raises(Killed):
        train(TEXTS, walkers(40), CONFIG, RECIPE, folder, watch=Watch(on_step=kill))
    trained = train(TEXTS, walkers(40), CONFIG, RECIPE, folder, watch=Watch(on_step=kill))

    assert steps[13].n_done > 1, "it did not begin anew"
    assert [epoch for epoch, _ in trained.story.validations] == [2, 3]
    assert all(weight.isfinite().all() for weight in trained.bundle.model.state_dict().values())


def test_another_run_does_not_continue_this_one(tmp_path):
    RunFolder(tmp_path / "bundle").claim({"data": "a"})

    RunFolder(tmp_path / "bundle").claim({"data": "a"})
    with pytest.raises(InvalidInput, match="another run that has not ended"):
        RunFolder(tmp_path / "bundle").claim({"data": "b"})


def test_patience_ends_a_run_and_the_best_weights_are_taken():
    story = Story([(0, 0.1), (1, 0.3), (2, 0.2)])

    assert story.best == 0.3
    assert not story.is_over(2)
    story.validations.append((3, 0.3))
    assert story.is_over(2)
    assert not story.is_over(0), "without patience it goes on to the end"


class Figures:
    """Validates a model by figures that were thought of, and keeps its weights."""

    def __init__(self, *values):
        self.values, self.weights = iter(values), []

    def __call__(self, trainer, split, on_part):
        self.weights.append({n: w.clone() for n, w in trainer.model.state_dict().items()})
        return {"ndcg@10": next(self.values)}


def test_a_run_without_progress_ends_early_with_the_weights_and_win_shares_of_its_best(
    folder, monkeypatch
):
    figures = Figures(0.1, 0.3, 0.2, 0.25)
    monkeypatch.setattr("encoder.train.validate", figures)
    ends = []
    watch = Watch(on_step=lambda step: ends.append(step) if step.ends_epoch else None)

    trained = train(
        TEXTS, walkers(20), CONFIG, replace(RECIPE, epochs=9, patience=2), folder, watch=watch
    )

    assert [value for _, value in trained.story.validations] == [0.1, 0.3, 0.2, 0.25]
    assert ends[-1].epoch == 5, "two of the warm-up, then four of nine"
    for name, weight in trained.bundle.model.state_dict().items():
        torch.testing.assert_close(weight, figures.weights[1][name], rtol=0, atol=0)
    assert trained.win_shares == ends[3].win_shares != ends[-1].win_shares


@pytest.mark.parametrize(
    ("texts", "histories", "reason"),
    [
        (Texts([], []), walkers(2), "catalogue is empty"),
        (Texts(["a", "a"], ["x", "y"]), walkers(2), "names an item twice"),
        (TEXTS, walkers(3, n_events=1), "no user has two events"),
    ],
)
def test_data_that_cannot_be_learned_from_is_one_clear_error(texts, histories, reason, folder):
    with pytest.raises(InvalidInput, match=reason):
        train(texts, histories, CONFIG, RECIPE, folder)
