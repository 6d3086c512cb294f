"""A checkpoint of transformers' as the LLM, tuned whole or by adapters."""

import json
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from encoder.base_llm import read_llm
from encoder.bundle import load_bundle, save_bundle
from encoder.run_folder import RunFolder
from encoder.texts import ITEM, item_tokens
from encoder.train import Watch, train
from protos.errors import InvalidInput
from tests.encoder.test_train import RECIPE, TEXTS, Killed, walkers
from tests.encoder.tiny import CONFIG, tiny_llm_config

WORDS = ["[UNK]", "<s>", "thing", "number", *map(str, range(24))]


def save_checkpoint(folder, family=LlamaConfig, n_layers=5):
    """A checkpoint with random weights, as transformers saves it."""
    torch.manual_seed(0)
    fields = tiny_llm_config(CONFIG, len(WORDS), family) | {"num_hidden_layers": n_layers}
    fields.pop("layer_types", None)
    AutoModel.from_config(family(**fields)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "bundle")
    folder.claim({})
    return folder


@pytest.mark.parametrize("family", [LlamaConfig, Qwen3Config, MistralConfig])
def test_a_checkpoint_is_trained_saved_and_loaded(tmp_path, folder, family):
    checkpoint = save_checkpoint(tmp_path / "llm", family)

    trained = train(
        TEXTS, walkers(20), CONFIG, RECIPE.quick(), folder, checkpoint=checkpoint
    ).bundle
    save_bundle(trained, tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")

    assert loaded.llm_config["model_type"] == family.model_type
    assert loaded.llm_config["num_hidden_layers"] == 3  # of the checkpoint's five
    assert str(tmp_path) not in json.dumps(loaded.llm_config, default=str)
    for name, weight in trained.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], weight, rtol=0, atol=0)


def test_training_starts_from_the_checkpoints_weights_and_words(tmp_path):
    checkpoint = save_checkpoint(tmp_path / "llm")
    saved = AutoModel.from_pretrained(checkpoint).state_dict()

    llm = read_llm(checkpoint, CONFIG)

    for name, weight in llm.weights.items():
        torch.testing.assert_close(weight[: len(saved[name])], saved[name], rtol=0, atol=0)
    tokens, lengths = item_tokens(llm.tokenizer, ["thing number 3"], 8)
    words = [llm.tokenizer.id_to_token(int(token)) for token in tokens[0, : lengths[0]]]
    assert words == ["thing", "number", "3", ITEM]
    assert len(llm.weights["embed_tokens.weight"]) > llm.tokenizer.token_to_id(ITEM)


def test_adapters_learn_in_place_of_the_layers_and_are_merged(tmp_path, folder):
    checkpoint = save_checkpoint(tmp_path / "llm")
    base = read_llm(checkpoint, CONFIG).weights
    recipe = replace(RECIPE.quick(), lora_rank=2)

    trained = train(TEXTS, walkers(20), CONFIG, recipe, folder, checkpoint=checkpoint).bundle

    tuned = trained.model.tower.llm.llm.state_dict()
    assert tuned.keys() == base.keys()
    for name, weight in base.items():
        change = (tuned[name] - weight)[: len(WORDS)]  # [ITEM]'s own is drawn at each reading
        if name.endswith("_proj.weight"):
            assert torch.linalg.matrix_rank(change, rtol=1e-3) == 2, name
        else:
            assert not change.any(), name


def assert_holds_no_frozen_weights(folder):
    cpu = torch.device("cpu")
    checkpoint, best = folder.load("checkpoint", cpu), folder.load("best", cpu)
    for saved in (checkpoint["trainer"]["model"], best["model"]):
        assert any("lora_" in name for name in saved)
        assert not any("base_layer" in name or "embed_tokens" in name for name in saved)


def test_a_killed_run_with_adapters_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr("encoder.train.CHECKPOINT_S", 0.0)
    checkpoint = save_checkpoint(tmp_path / "llm")
    recipe = replace(RECIPE.quick(), lora_rank=2, validation_users=10)
    weights = {}
    for name, after in (("whole", None), ("killed", 7)):
        folder = RunFolder(tmp_path / name)
        folder.claim({})
        n_steps = 0

        def kill(step, after=after):
            nonlocal n_steps
            n_steps += 1
            if n_steps == after:
                raise Killed

        watch = Watch(on_step=kill)
        arguments = (TEXTS, walkers(20), CONFIG, recipe, folder)
        if after is not None:
            with pytest.raises(Killed):
                train(*arguments, checkpoint=checkpoint, watch=watch)
        trained = train(*arguments, checkpoint=checkpoint, watch=watch)
        weights[name] = trained.bundle.model.state_dict()
        assert_holds_no_frozen_weights(folder)

    for name, weight in weights["whole"].items():
        torch.testing.assert_close(weights["killed"][name], weight, rtol=0, atol=0)


def test_a_checkpoint_with_too_few_layers_is_refused(tmp_path):
    checkpoint = save_checkpoint(tmp_path / "llm", n_layers=2)

    with pytest.raises(InvalidInput, match="has 2 layers, the model wants 3; lower shallow_layers"):
        read_llm(checkpoint, CONFIG)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"it has no config\.json"):
        read_llm(tmp_path, CONFIG)


@pytest.mark.parametrize("length", [0, 5, 100, 4_000])
def test_a_truncated_file_of_weights_is_named(tmp_path, length):
    checkpoint = save_checkpoint(tmp_path / "llm")
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:length])

    with pytest.raises(InvalidInput, match=r"model\.safetensors is damaged .* copy the checkpoint"):
        read_llm(checkpoint, CONFIG)
