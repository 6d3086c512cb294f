"""A decoder LLM from transformers, run layer by layer in three groups (HatLLM, arXiv 2510.10955).

    shallow   attends only inside an item, positions local to the item
    middle    plain causal
    deep      only across items; a token always keeps itself

Any model whose layers look like Llama's (Llama, Qwen, Mistral) serves. Groups differ only in the
mask and the positions that a layer is given, so the layers themselves stay transformers' own.
A rope whose frequencies depend on the length of the input would make an item's shallow states
depend on its neighbours; such variants are refused.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, LlamaConfig, PretrainedConfig, PreTrainedModel

from encoder.config import ModelConfig
from encoder.past import KeysValues, Past, joined
from protos.errors import InvalidInput

NEEDED = ("embed_tokens", "layers", "norm", "rotary_emb")
LENGTH_DEPENDENT_ROPES = ("dynamic", "longrope")


def default_llm_config(config: ModelConfig, vocab_size: int) -> dict[str, object]:
    """Return the config of the small Llama that is trained here, with the layers of all groups."""
    llm = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_hidden_layers=config.shallow_layers + config.middle_layers + config.deep_layers,
        attention_dropout=0.0,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return cast(dict[str, object], llm.to_dict())


def build_llm(llm_config: Mapping[str, object], *, n_layers: int) -> nn.Module:
    """Make the transformers model with its first `n_layers` layers, weights at random.

    Raises:
        InvalidInput: rope depends on the length, or the layers are not of Llama's kind.
    """
    fields = dict(llm_config)
    family = fields.pop("model_type", None)
    if not isinstance(family, str):
        raise InvalidInput("the LLM's config names no model_type; use a transformers checkpoint")
    try:
        built = AutoConfig.for_model(family, **fields)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"transformers does not know the LLM type {family!r}") from error
    keep_first_layers(built, n_layers)
    llm = AutoModel.from_config(built, attn_implementation="sdpa")
    refuse_foreign_kind(llm, f"an LLM of type {family!r}")
    return cast(nn.Module, llm)


def keep_first_layers(llm_config: PretrainedConfig, n_layers: int) -> None:
    """Make a config that of a shallower model."""
    llm_config.num_hidden_layers = n_layers
    if getattr(llm_config, "layer_types", None):
        llm_config.layer_types = llm_config.layer_types[:n_layers]


def refuse_foreign_kind(llm: PreTrainedModel, name: str) -> None:
    """Raise InvalidInput when layers cannot be run one by one, or rope depends on the length."""
    if missing := [part for part in NEEDED if not hasattr(llm, part)]:
        raise InvalidInput(f"{name} has no {', '.join(missing)}; use a Llama, Qwen or Mistral")
    _refuse_length_dependent_rope(llm.config)


def _refuse_length_dependent_rope(llm_config: object) -> None:
    """Raise InvalidInput when rotary frequencies depend on how long the input is."""
    rope = getattr(llm_config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [part for part in rope.values() if part]
    for kind in kinds:
        name = kind.get("rope_type", "default") if isinstance(kind, Mapping) else "default"
        if name in LENGTH_DEPENDENT_ROPES:
            raise InvalidInput(
                f"rope type {name!r} depends on the length of the input, so an item's states could "
                "not be cached; use default, linear, yarn or llama3"
            )


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where visible and the lowest number elsewhere.

    Args:
        visible: (B, T, n) bool; every row has at least one True.

    Returns:
        (B, 1, T, n), one mask for all heads.
    """
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min).unsqueeze(1)


class GroupedLlm(nn.Module):
    """The LLM's layers in groups. `n_layers` below the config's sum keeps the first ones only."""

    def __init__(
        self, config: ModelConfig, llm_config: Mapping[str, object], n_layers: int | None = None
    ) -> None:
        super().__init__()
        shallow, middle = config.shallow_layers, config.middle_layers
        total = shallow + middle + config.deep_layers
        self.llm = build_llm(llm_config, n_layers=total if n_layers is None else n_layers)
        self.cuts = (shallow, shallow + middle)
        self.width: int = self.llm.config.hidden_size  # type: ignore[union-attr,assignment]

    def load_base(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint; those of layers that are not here are left out.

        Raises InvalidInput when a layer that is here has none.
        """
        missing, _ = self.llm.load_state_dict(weights, strict=False)
        if missing:
            raise InvalidInput(f"the LLM's checkpoint has no {missing[0]}")

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) int -> (B, T, F)"""
        return cast(Tensor, cast(nn.Module, self.llm.embed_tokens)(tokens))

    def shallow(self, states: Tensor) -> Tensor:
        """Run the shallow group on items one by one: (B, T, F), one item a row, padding right.

        Causal inside the item, so that padding after its last token is never seen.
        """
        positions = torch.arange(states.shape[1], device=states.device).expand(states.shape[:2])
        return self._run(self._layers[: self.cuts[0]], states, positions, None)

    def across(
        self,
        states: Tensor,
        positions: Tensor,
        middle: Tensor,
        deep: Tensor,
        past: Past | None = None,
    ) -> tuple[Tensor, Sequence[KeysValues]]:
        """Run the middle and deep groups, and the final norm.

        Args:
            states: (B, T, F), the shallow states of the items of a row.
            positions: (B, T) int.
            middle: (B, T, n + T) bool, what each token sees in the middle group.
            deep: (B, T, n + T) bool, the same in the deep group.
            past: n tokens that stand before, or None.

        Returns:
            (B, T, F), and the keys and values of the T tokens, layer by layer.
        """
        first, second = self.cuts
        seam = _Seam(first, past)
        mask = additive(middle, states.dtype)
        states = self._run(self._layers[first:second], states, positions, mask, seam)
        mask = mask if deep is middle else additive(deep, states.dtype)
        states = self._run(self._layers[second:], states, positions, mask, seam)
        return cast(Tensor, cast(nn.Module, self.llm.norm)(states)), seam.new

    def past_shape(self, n_tokens: int) -> tuple[int, ...]:
        """Return (middle and deep layers, 2, H, n, head width), of what n tokens leave to later
        ones."""
        config = cast(PretrainedConfig, self.llm.config)
        n_heads = config.num_attention_heads
        n_read = getattr(config, "num_key_value_heads", None) or n_heads
        head_width = getattr(config, "head_dim", None) or self.width // n_heads
        return (len(self._layers) - self.cuts[0], 2, n_read, n_tokens, head_width)

    @property
    def _layers(self) -> Sequence[nn.Module]:
        return list(cast(nn.ModuleList, self.llm.layers))

    def _run(
        self,
        layers: Sequence[nn.Module],
        states: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        seam: "_Seam | None" = None,
    ) -> Tensor:
        rotary = cast(nn.Module, self.llm.rotary_emb)(states, positions)
        for layer in layers:
            states = layer(
                states,
                attention_mask=mask,
                position_ids=positions,
                position_embeddings=rotary,
                past_key_values=seam,
            )
        return states


class _Seam:
    """Stands where transformers' attention expects its cache: hands earlier keys and values in, and
    notes the new ones."""

    def __init__(self, first_layer: int, past: Past | None) -> None:
        self._first_layer, self._past = first_layer, past
        self.new: list[KeysValues] = []

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object
    ) -> KeysValues:
        self.new.append((keys, values))
        past = None if self._past is None else self._past.of_layer(layer - self._first_layer)
        return joined(past, (keys, values))
