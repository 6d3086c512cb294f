"""The models of `freshet bench ablations` lack what they say they lack, and learn all the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.bench.trial import ranked, trained
from encoder.bench.variants import VARIANTS, FullVectors
from encoder.evaluate import Served
from encoder.splits import last_events
from encoder.start import starting_bundle
from tests.encoder.test_train import RECIPE, TEXTS, walkers
from tests.encoder.tiny import CONFIG

QUICK = replace(RECIPE.quick(), rows_a_batch=4)


def start_of(name, n_users=10):
    variant = VARIANTS[name]
    recipe, config = variant.budgeted(QUICK), variant.sized(CONFIG)
    start = starting_bundle(TEXTS, walkers(n_users), config, recipe, lambda *said: None)
    return variant.change(start), variant, recipe


def trained_on_walkers(name):
    return trained(VARIANTS[name], TEXTS, walkers(10), QUICK, CONFIG)


UNLIKE = ["light", "llm", "hstu", "k8", "no-masks", "full-vectors", "memory0", "newest50"]


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


def test_without_the_deep_mask_a_token_sees_inside_its_item():
    masked, plain = (start_of(name)[0].model.tower.llm for name in ("tokens-all", "no-deep-mask"))
    plain.load_state_dict(masked.state_dict())
    states = torch.randn(1, 4, masked.width)
    places = torch.arange(4)[None]
    causal = torch.ones(4, 4, dtype=torch.bool).tril()[None]
    itself = torch.eye(4, dtype=torch.bool)[None]

    with_mask, _ = masked.across(states, places, causal, itself)
    without, _ = plain.across(states, places, causal, itself)

    torch.testing.assert_close(without, masked.across(states, places, causal, causal)[0])
    assert (with_mask - without).abs().max() > 1e-3


def test_longer_histories_are_cut_to_their_newest_events():
    history = walkers(1, n_events=60)[0]

    cut = VARIANTS["newest50"].cut(history)

    assert cut.item_rows.tolist() == history.item_rows[-50:].tolist()
