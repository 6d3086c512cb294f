"""The LLM before training: a small one with weights at random, or a checkpoint of transformers'."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from encoder.config import ModelConfig
from encoder.grouped_llm import default_llm_config, keep_first_layers, refuse_foreign_kind
from encoder.texts import ITEM, train_tokenizer
from protos.errors import InvalidInput

_LAYER = re.compile(r"layers\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class BaseLlm:
    config: Mapping[str, object]
    """transformers' own, of as many layers as the three groups have."""
    tokenizer: Tokenizer
    """With [ITEM]."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """Of those layers; none: at random."""


def small_llm(config: ModelConfig, texts: Sequence[str]) -> BaseLlm:
    """Return the default: a few layers, and a tokenizer fitted on the catalogue."""
    tokenizer = train_tokenizer(texts)
    return BaseLlm(default_llm_config(config, tokenizer.get_vocab_size()), tokenizer)


def read_llm(folder: Path, config: ModelConfig) -> BaseLlm:
    """Read the first layers of a local checkpoint; [ITEM] joins its tokens.

    Raises InvalidInput when it cannot be read, a file of it is damaged, it is not of Llama's kind,
    or it has too few layers.
    """
    if not (folder / "config.json").is_file():
        raise InvalidInput(f"{folder} is no transformers checkpoint: it has no config.json")
    try:
        llm = AutoModel.from_pretrained(folder, local_files_only=True, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
    except SafetensorError as error:
        raise InvalidInput(
            f"{_damaged(folder)} is damaged ({error}); copy the checkpoint again"
        ) from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InvalidInput(f"{folder} cannot be read as a checkpoint: {error}") from error
    refuse_foreign_kind(llm, str(folder))
    n_layers = config.shallow_layers + config.middle_layers + config.deep_layers
    if n_layers > llm.config.num_hidden_layers:
        raise InvalidInput(
            f"{folder} has {llm.config.num_hidden_layers} layers, the model wants {n_layers}; "
            "lower shallow_layers, middle_layers or deep_layers"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.add_special_tokens([ITEM])
    llm.resize_token_embeddings(max(tokenizer.get_vocab_size(), llm.config.vocab_size))
    keep_first_layers(llm.config, n_layers)
    described = llm.config.to_dict()
    described.pop("_name_or_path", None)  # a path of the machine that trained
    weights = {n: w for n, w in llm.state_dict().items() if _layer_of(n) < n_layers}
    return BaseLlm(described, tokenizer, weights)


def _damaged(folder: Path) -> Path:
    """Return which file of weights cannot be opened, the folder if all can."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError:
            return file
    return folder


def _layer_of(name: str) -> int:
    """Return which layer a weight belongs to, -1 for none."""
    found = _LAYER.match(name)
    return int(found[1]) if found else -1
