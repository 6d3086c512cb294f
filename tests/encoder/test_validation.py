"""Validation in the middle of training."""

import pytest
import torch

from encoder.evaluate import Served, evaluate_scores
from encoder.items import ItemTower
from encoder.peers import Peers
from encoder.start import starting_bundle, tokens_of
from encoder.trainer import Trainer
from encoder.validation import hold_out, validate
from tests.encoder.test_train import RECIPE, TEXTS, walkers
from tests.encoder.tiny import CONFIG


@pytest.fixture(scope="module")
def trainer():
    recipe = RECIPE.quick()
    start = starting_bundle(TEXTS, walkers(10), CONFIG, recipe, lambda *said: None)
    return Trainer(
        start,
        tokens_of(start),
        walkers(10),
        recipe,
        peers=Peers(),
        device=torch.device("cpu"),
    )


def test_the_model_is_judged_as_its_bundle_would_be(trainer):
    split = hold_out(walkers(30), 20, 0).split
    served = Served(trainer.bundle())

    found = validate(trainer, split)

    assert found == evaluate_scores(split, lambda some: served.scores(some, refine=True))
    assert 0 < found["ndcg@10"] < 1


def test_the_catalogue_is_encoded_once_for_it(trainer, monkeypatch):
    encode, calls = ItemTower.encode, []

    def counted(tower, tokens, *rest):
        calls.append(len(tokens))
        return encode(tower, tokens, *rest)

    monkeypatch.setattr(ItemTower, "encode", counted)
    validate(trainer, hold_out(walkers(30), 20, 0).split)

    assert calls == [len(TEXTS.texts)]
