"""The two kinds of layer of the light recommender: a pre-norm transformer's, and HSTU's.

Both attend over stored memory and the row itself, add what they find to the states, and return
what their memory tokens leave for later segments: keys and values, rounded to f16 when written, so
that a block from a store and one of the same pass agree.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.config import HSTU, TRANSFORMER, ModelConfig
from encoder.dropout import dropout
from encoder.past import KeysValues, joined


@dataclass(frozen=True, slots=True)
class Attended:
    """What the tokens of R rows attend to. T = S' + M + P * K tokens; A' blocks of M read before.

    A layer gets it with the stored blocks of its own.
    """

    visible: Tensor  # (R, 1, T, A' * M + T) bool
    prior: Tensor  # (R, A') int: places in the bank; below 0 for none, which is not visible
    rotary: tuple[Tensor, Tensor]  # cos and sin, (R, 1, T, head width / 2)
    first_memory: int
    """S', where the memory tokens begin."""
    n_memory: int
    """M, or 0."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the tokens of a layer leave for others."""

    memory: Tensor  # (R, 2, M, width), f16: keys and values of the memory tokens
    events: KeysValues


class LightBlock(nn.Module, ABC):
    """What both kinds share: heads, rotary places, and the reading of memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.age = nn.Parameter(torch.zeros(config.n_blocks, config.light_width))

    @abstractmethod
    def forward(
        self,
        states: Tensor,
        attended: Attended,
        stored: Tensor | None,
        past: KeysValues | None,
    ) -> tuple[Tensor, Written]:
        """Return the states, (R, T, width), and what others need of this layer.

        Args:
            stored: (G, 2, M, width) keys and values of stored blocks, or None.
            past: of n events of each segment that were computed before, or None.
        """

    def _all(
        self,
        keys: Tensor,
        values: Tensor,
        attended: Attended,
        stored: Tensor | None,
        past: KeysValues | None,
    ) -> tuple[Tensor, Tensor, Written]:
        """Return keys and values of blocks, earlier events and tokens, (R, H, A' * M + n + T,
        width / H), and what the tokens' own leave."""
        first = attended.first_memory
        own = slice(first, first + attended.n_memory)
        memory = torch.stack([keys[:, own], values[:, own]], dim=1).half()
        if stored is None:
            bank = memory
        else:
            bank = torch.cat([stored, memory]) if attended.n_memory else stored
        blocks = bank[attended.prior.clamp_min(0)].to(self.age.dtype)  # (R, A', 2, M, width)
        ages = self.age[: attended.prior.shape[1]].unsqueeze(1)
        old = (
            self._heads((blocks[:, :, 0] + ages).flatten(1, 2)),
            self._heads(blocks[:, :, 1].flatten(1, 2)),
        )
        new = rotate(self._heads(keys), attended.rotary), self._heads(values)
        written = Written(memory, (new[0][:, :, :first], new[1][:, :, :first]))
        return *joined(old, joined(past, new)), written

    def _heads(self, states: Tensor) -> Tensor:
        split: Tensor = states.unflatten(-1, (self.config.light_heads, -1))
        return split.transpose(1, 2)


class TransformerBlock(LightBlock):
    """Softmax attention, then an MLP; both pre-norm and residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.light_width
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(
        self, states: Tensor, attended: Attended, stored: Tensor | None, past: KeysValues | None
    ) -> tuple[Tensor, Written]:
        rate = self.config.dropout
        queries, keys, values = self.qkv(self.norm_attention(states)).chunk(3, dim=-1)
        queries = rotate(self._heads(queries), attended.rotary)  # (R, H, T, width / H)
        keys, values, written = self._all(keys, values, attended, stored, past)
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=attended.visible)
        seen = self.mix(seen.transpose(1, 2).flatten(2))
        states = states + dropout(seen, rate, self.training)
        mlp = self.down(F.gelu(self.up(self.norm_mlp(states))))
        return states + dropout(mlp, rate, self.training), written


class HstuBlock(LightBlock):
    """Pointwise gated attention (arXiv 2402.17152): SiLU in place of the softmax, so how much there
    is of something counts, not only its share; the gate stands in for the MLP.

    Places are rotary here as well, where the paper adds a bias by distance and time; time gaps are
    inputs of ours.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.light_width
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 4 * width)
        self.norm_seen = nn.LayerNorm(width, eps=1e-6)
        self.mix = nn.Linear(width, width)

    def forward(
        self, states: Tensor, attended: Attended, stored: Tensor | None, past: KeysValues | None
    ) -> tuple[Tensor, Written]:
        gates, queries, keys, values = F.silu(self.project(self.norm(states))).chunk(4, dim=-1)
        queries = rotate(self._heads(queries), attended.rotary)
        keys, values, written = self._all(keys, values, attended, stored, past)
        weights = F.silu(queries @ keys.transpose(-1, -2)) * attended.visible
        # A constant, whatever a row is padded to; the norm takes out what is left of the scale.
        seen = weights @ values / self.config.segment_size
        seen = self.norm_seen(seen.transpose(1, 2).flatten(2)) * gates
        mixed = self.mix(dropout(seen, self.config.dropout, self.training))
        return states + mixed, written


KINDS: Mapping[str, type[LightBlock]] = {TRANSFORMER: TransformerBlock, HSTU: HstuBlock}


def rotate(states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn (R, H, T, head width) by its places."""
    cos, sin = rotary
    first, second = states.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
