"""The models of `freshet bench ablations` lack what they say they lack, and learn all the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from encoder.bench.ablations import METRICS, figures_of
from encoder.bench.trial import ranked, trained
from encoder.bench.variants import VARIANTS, FullVectors
from encoder.evaluate import Served
from encoder.grouped_llm import additive
from encoder.llm import row_layout
from encoder.peers import Peers
from encoder.splits import last_events
from encoder.start import starting_bundle, tokens_of
from encoder.trainer import ALL, WARM_UP, Trainer
from tests.encoder.test_train import RECIPE, TEXTS, walkers
from tests.encoder.tiny import CONFIG, randomise

QUICK = replace(RECIPE.quick(), rows_a_batch=4)


def start_of(name, n_users=10):
    variant = VARIANTS[name]
    recipe, config = variant.recipe(QUICK), variant.sized(CONFIG)
    start = starting_bundle(TEXTS, walkers(n_users), config, recipe, lambda *said: None)
    return variant.change(start), variant, recipe


def trained_on_walkers(name):
    return trained(VARIANTS[name], TEXTS, walkers(10), QUICK, CONFIG)


UNLIKE = [
    "light",
    "llm",
    "hstu",
    "k8",
    "no-shallow-mask",
    "no-masks",
    "full-vectors",
    "memory0",
    "newest50",
]


@pytest.mark.parametrize("name", UNLIKE)
def test_every_variant_is_trained_and_judged(name):
    known, split = last_events(walkers(10), 2)

    found = ranked(VARIANTS[name], TEXTS, known, split, QUICK, CONFIG)

    assert found.targets.tolist() == list(split.targets)
    assert all(len(set(top[:10])) == 10 and min(top[:10]) >= 0 for top in found.tops)


def test_the_light_recommender_alone_leaves_the_llm_as_it_was():
    before = start_of("light")[0].model.refine.state_dict()

    after = trained_on_walkers("light").model.refine.state_dict()

    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=0)


def test_the_llm_alone_knows_no_more_than_the_window():
    served = Served(trained_on_walkers("llm"))
    history = walkers(1, n_events=30)[0]
    other = replace(history, item_rows=np.concatenate([[7], history.item_rows[1:]]))

    ours, theirs = (served.interests([one], refine=True) for one in (history, other))

    np.testing.assert_array_equal(ours, theirs)


def test_full_vectors_are_the_items_own():
    start = start_of("full-vectors")[0]
    light, catalogue = start.model.light, start.catalogue
    assert isinstance(light, FullVectors)

    found = light.items(torch.from_numpy(catalogue.codes)[None])[0]

    expected = light.read(torch.from_numpy(catalogue.embeddings)) * CONFIG.dim**0.5
    torch.testing.assert_close(found, expected)


COUNTS = torch.tensor([[1, 3]])
"""Items that two samples see."""
MASKS = {
    "two-deep": [None, "middle", "deep", "deep"],
    "no-deep-mask": [None, "middle", "middle", "middle"],
    "no-shallow-mask": ["middle", "middle", "deep", "deep"],
    "no-masks": ["middle", "middle", "middle", "middle"],
}
"""Of the shallow, the middle and two deep layers when a row is read; None: inside items alone."""


class Row:
    """Three items and two samples, read by a model with random weights."""

    def __init__(self, name):
        start = start_of(name)[0]
        self.model = start.model.eval()
        randomise(self.model, 1)
        rows = torch.tensor([3, 7, 12])
        some = tokens_of(start).take(rows)
        self.items = self.model.tower(some.tokens, some.lengths, rows)
        self.layout = row_layout(self.items.is_kept[None], COUNTS, CONFIG.n_interests)
        self.layers = list(self.model.tower.llm.llm.layers)

    def interests(self):
        shape = (1, 2, CONFIG.n_interests, CONFIG.dim)
        coarse = F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(0)), dim=-1)
        kept, is_kept = self.items.kept[None], self.items.is_kept[None]
        return self.model.refine(self.model.tower.llm, kept, is_kept, coarse, COUNTS).interests

    def inside_items(self):
        n_kept, n_head = self.items.kept.shape[1], self.items.is_kept.numel()
        n_tail = self.layout.middle.shape[1] - n_head
        item = torch.cat([torch.arange(n_head) // n_kept, n_head + torch.arange(n_tail)])
        return self.layout.middle & (item[:, None] == item)


@pytest.mark.parametrize("name", MASKS)
def test_a_row_goes_once_through_each_layer_under_the_masks_that_a_variant_keeps(name):
    row = Row(name)
    seen = {layer: [] for layer in row.layers}

    def note(layer, _, words):
        mask = words["attention_mask"]
        seen[layer].append(None if mask is None else mask[:, 0] == 0)

    for layer in row.layers:
        layer.register_forward_pre_hook(note, with_kwargs=True)
    row.interests()

    for masks, expected in zip(seen.values(), MASKS[name], strict=True):
        (mask,) = masks
        assert mask is None if expected is None else mask.equal(getattr(row.layout, expected))


@pytest.mark.parametrize("name", ["no-deep-mask", "no-shallow-mask", "no-masks"])
def test_given_the_masks_back_a_variant_is_the_model_that_has_them(name):
    row, expected = Row(name), Row("two-deep").interests()
    lacking = row.interests()
    own = [row.inside_items(), row.layout.middle, row.layout.deep, row.layout.deep]
    masks = {
        layer: additive(mask, torch.float32)
        for layer, mask, lack in zip(row.layers, own, MASKS[name], strict=True)
        if lack is not None
    }

    def give_back(layer, args, words):
        return args, words | {"attention_mask": masks[layer]}

    for layer in masks:
        layer.register_forward_pre_hook(give_back, with_kwargs=True)

    torch.testing.assert_close(row.interests(), expected, rtol=1e-4, atol=2e-5)
    assert (lacking - expected).abs().max() > 1e-2


def test_a_variant_is_compared_with_the_one_that_it_names():
    users = np.zeros(30)
    found = {
        name: dict.fromkeys(METRICS, users + value)
        for name, value in (("hybrid", 0.2), ("two-deep", 0.5), ("no-masks", 0.4), ("k1", 0.1))
    }

    assert figures_of("k1", found)["hr@10 to hybrid"] == [-0.1] * 3
    assert figures_of("no-masks", found)["ndcg@10 to two-deep"] == [-0.1] * 3
    assert all(variant.against in VARIANTS for variant in VARIANTS.values())


def test_joint_training_takes_as_many_steps_none_of_them_a_warm_up():
    stages = {}
    for name in ("hybrid", "joint"):
        start, _, recipe = start_of(name)
        tokens, device = tokens_of(start), torch.device("cpu")
        trainer = Trainer(start, tokens, walkers(10), recipe, peers=Peers(), device=device)
        stages[name] = [step.stage for step in trainer.run()]

    assert stages["joint"] == [ALL] * len(stages["hybrid"])
    assert set(stages["hybrid"]) == {WARM_UP, ALL}


def test_eight_interests_learn_from_sixteen_targets():
    assert start_of("k8")[2].n_targets == 16


def test_longer_histories_are_cut_to_their_newest_events():
    history = walkers(1, n_events=60)[0]

    cut = VARIANTS["newest50"].cut(history)

    assert cut.item_rows.tolist() == history.item_rows[-50:].tolist()
