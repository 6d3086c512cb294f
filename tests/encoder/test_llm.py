from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, MistralConfig, Qwen3Config

from encoder.grouped_llm import GroupedLlm, build_llm
from encoder.items import NO_VECTOR, ItemTower
from encoder.llm import LlmRecommender, PastItems, row_layout
from encoder.past import Past
from encoder.texts import item_tokens
from protos.errors import InvalidInput
from tests.encoder.tiny import CONFIG, N_ITEMS, make_bundle, randomise, tiny_llm_config

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.mark.parametrize("n_kept", [1, 2, 3])
def test_masks_follow_the_rules_of_the_three_groups(n_kept):
    n_items, n_interests, counts = 3, 2, [[1, 3]]
    is_kept = torch.ones(1, n_items, n_kept, dtype=torch.bool)
    is_kept[0, 1, 0] = n_kept == 1  # an item with fewer tokens

    layout = row_layout(is_kept, torch.tensor(counts), n_interests)

    head = n_items * n_kept
    for token in range(layout.middle.shape[1]):
        for key in range(layout.middle.shape[1]):
            token_sample = (token - head) // (2 * n_interests) if token >= head else None
            if key >= head:
                key_sample = (key - head) // (2 * n_interests)
                causal = token_sample == key_sample and key <= token
                same_item = key == token
            else:
                shown = bool(is_kept.flatten()[key])
                if token < head:
                    causal = key <= token and shown
                    same_item = key // n_kept == token // n_kept
                else:
                    causal = key // n_kept < counts[0][token_sample] and shown
                    same_item = False
            assert layout.middle[0, token, key] == (causal or key == token)
            assert layout.deep[0, token, key] == ((causal and not same_item) or key == token)


@pytest.mark.parametrize("n_kept", [1, 2, 3])
@pytest.mark.parametrize("n_before", [None, 0, 2])
def test_every_token_sees_something_even_where_all_is_padding(n_kept, n_before):
    is_kept = torch.zeros(1, 3, n_kept, dtype=torch.bool)
    before, counts = None, torch.tensor([[n_before or 0]])
    if n_before is not None:
        pool = torch.zeros(2, 2, 2, 1, 2 * n_kept, 8)
        were_kept = torch.zeros(1, 2, n_kept, dtype=torch.bool)
        before = PastItems(
            Past(pool, torch.tensor([1]), torch.tensor([n_before]), 2 * n_kept), were_kept
        )

    layout = row_layout(is_kept, counts, 2, before)

    n_past = 0 if before is None else 2 * n_kept
    for mask in (layout.middle, layout.deep):
        n_tokens = mask.shape[1]
        assert mask.shape[2] == n_past + n_tokens
        assert mask[0, :, n_past:].diagonal().all()


def test_samples_stand_right_after_the_items_that_they_see():
    layout = row_layout(torch.ones(1, 3, 2, dtype=torch.bool), torch.tensor([[1, 3]]), 2)

    assert layout.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("kept_tokens", [1, 2, 0])
@pytest.mark.parametrize("family", [LlamaConfig, Qwen3Config, MistralConfig])
def test_several_samples_in_a_row_equal_a_row_each(family, kept_tokens):
    config = replace(CONFIG, kept_tokens=kept_tokens)
    torch.manual_seed(0)
    llm = GroupedLlm(config, tiny_llm_config(config, 50, family)).eval()
    recommender = LlmRecommender(config, llm.width).eval()
    randomise(recommender, 1)
    kept = torch.randn(1, 5, config.n_kept, llm.width)
    is_kept = torch.ones(1, 5, config.n_kept, dtype=torch.bool)
    coarse = torch.nn.functional.normalize(torch.randn(1, 2, 3, config.dim), dim=-1)

    together = recommender(llm, kept, is_kept, coarse, torch.tensor([[2, 5]]))

    for place, n_items in enumerate([2, 5]):
        alone = recommender(
            llm,
            kept[:, :n_items],
            is_kept[:, :n_items],
            coarse[:, place : place + 1],
            torch.tensor([[n_items]]),
        )
        torch.testing.assert_close(together.interests[:, place], alone.interests[:, 0], **CLOSE)


@pytest.mark.parametrize("kept_tokens", [1, 2])
def test_a_guess_of_the_next_item_sees_neither_later_items_nor_samples(kept_tokens):
    config = replace(CONFIG, kept_tokens=kept_tokens)
    torch.manual_seed(0)
    llm = GroupedLlm(config, tiny_llm_config(config, 50)).eval()
    recommender = LlmRecommender(config, llm.width).eval()
    randomise(recommender, 1)
    kept = torch.randn(2, 5, kept_tokens, llm.width)
    is_kept = torch.ones(2, 5, kept_tokens, dtype=torch.bool)
    coarse = torch.nn.functional.normalize(torch.randn(2, 2, 3, config.dim), dim=-1)

    whole = recommender(llm, kept, is_kept, coarse, torch.tensor([[2, 5], [1, 4]])).next_items

    nobody, none = coarse[:, :0], torch.zeros(2, 0, dtype=torch.long)
    for n_items in range(1, 6):
        cut = recommender(llm, kept[:, :n_items], is_kept[:, :n_items], nobody, none).next_items
        torch.testing.assert_close(cut, whole[:, :n_items], **CLOSE)


def test_items_that_are_padding_change_nothing(bundle):
    model = bundle.model
    kept = torch.randn(1, 3, 1, model.tower.llm.width)
    coarse = torch.nn.functional.normalize(torch.randn(1, 1, 3, CONFIG.dim), dim=-1)
    padded = torch.cat([kept, torch.full_like(kept, 1e3)], dim=1)
    is_item = torch.tensor([[[True]] * 3 + [[False]] * 3])

    found = model.refine(model.tower.llm, kept, is_item[:, :3], coarse, torch.tensor([[3]]))
    with_padding = model.refine(model.tower.llm, padded, is_item, coarse, torch.tensor([[3]]))

    torch.testing.assert_close(with_padding.interests, found.interests, **CLOSE)


def test_cached_shallow_states_equal_those_computed_in_the_row():
    bundle = make_bundle(replace(CONFIG, kept_tokens=0))
    tower, texts = bundle.model.tower, ["red thing 1", "blue thing 2 very", "x"]
    tokens, lengths = map(torch.from_numpy, item_tokens(bundle.tokenizer, texts, 8))
    rows = torch.tensor([3, NO_VECTOR, 5])

    cached = tower(tokens, lengths, rows)

    # Uncached: the three items in one row, one mask inside items, positions local to each.
    longest = tokens.shape[1]
    states = tower.llm.embed(tokens)
    for item, row in enumerate(rows.tolist()):
        if row != NO_VECTOR:
            states[item, lengths[item] - 1] += tower.item_vectors.weight[row]
    item = torch.arange(3).repeat_interleave(longest)
    order = torch.arange(3 * longest)
    inside = (item[:, None] == item[None]) & (order[:, None] >= order[None])
    shallow = tower.llm._run(
        tower.llm._layers[:1],
        states.view(1, -1, tower.llm.width),
        (order % longest).unsqueeze(0),
        torch.zeros(1, 1, len(order), len(order)).masked_fill(~inside, -1e30),
    ).view(3, longest, -1)
    for place, length in enumerate(lengths.tolist()):
        kept = cached.kept[place][cached.is_kept[place]]
        torch.testing.assert_close(kept, shallow[place, :length], **CLOSE)


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_a_rope_that_depends_on_the_length_is_refused(rope_type):
    config = tiny_llm_config(CONFIG, 50)
    config["rope_parameters"] = {
        "rope_type": rope_type,
        "rope_theta": 10_000.0,
        "factor": 2.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 64,
    }

    with pytest.raises(InvalidInput, match="depends on the length"):
        build_llm(config, n_layers=1)


def test_an_llm_of_another_kind_is_refused():
    with pytest.raises(InvalidInput, match="use a Llama, Qwen or Mistral"):
        build_llm({"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2}, n_layers=1)


def test_an_item_is_the_same_alone_and_in_a_batch(bundle):
    tower, texts = bundle.model.tower, list(bundle.catalogue.texts)
    tokens, lengths = map(torch.from_numpy, item_tokens(bundle.tokenizer, texts, 8))
    rows = torch.arange(N_ITEMS)

    together = tower.encode(tokens, lengths, rows)

    for place in (0, 7, 39):
        alone = tower(tokens[[place]], lengths[[place]], rows[[place]])
        torch.testing.assert_close(together.embeddings[[place]], alone.embeddings, **CLOSE)
        torch.testing.assert_close(together.kept[[place]], alone.kept, **CLOSE)


def test_an_item_keeps_its_last_tokens():
    config = replace(CONFIG, kept_tokens=2)
    tower = ItemTower(config, tiny_llm_config(config, 50), 1).eval()
    tokens, lengths = torch.tensor([[5, 6, 1], [1, 0, 0]]), torch.tensor([3, 1])

    states = tower(tokens, lengths, torch.tensor([NO_VECTOR, NO_VECTOR]))

    assert states.kept.shape == (2, 2, tower.llm.width)
    assert states.is_kept.tolist() == [[True, True], [False, True]]
