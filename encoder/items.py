"""An item as a vector: text and [ITEM] through the LLM's shallow layers (HyMiRec, 2510.13738).

The embedding (D, unit length) is read at [ITEM] and projected. A learned vector of the item is
added at [ITEM] on the way in, so that the layers above see it too; in training it is dropped at
random, so an item without one works from its text alone. The states of an item's last tokens are
what the recommender reads (encoder/llm.py): they depend on the item alone, and can be cached.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.config import ModelConfig
from encoder.grouped_llm import GroupedLlm
from encoder.progress import OnCount, uncounted

NO_VECTOR = -1
BUCKET = 256


@dataclass(frozen=True, slots=True)
class ItemStates:
    """What the shallow layers say of N items; t tokens an item are kept."""

    kept: Tensor  # (N, t, F); the last token is [ITEM], shorter items stand right
    is_kept: Tensor  # (N, t) bool, False before a shorter item
    embeddings: Tensor  # (N, D), unit length

    def take(self, places: Tensor) -> "ItemStates":
        return ItemStates(self.kept[places], self.is_kept[places], self.embeddings[places])


@dataclass(frozen=True, slots=True)
class ItemState:
    """Shallow states of one item, as caches keep them. Two of the same object are the same item."""

    kept: Tensor  # (t, F)
    n_tokens: int
    """The last ones of `kept` that there are."""


class ItemTower(nn.Module):
    """Texts -> states and embeddings. Owns the LLM, whose shallow layers it runs."""

    def __init__(
        self,
        config: ModelConfig,
        llm_config: Mapping[str, object],
        n_items: int,
        n_layers: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.llm = GroupedLlm(config, llm_config, n_layers)
        self.item_vectors = nn.Embedding(max(1, n_items), self.llm.width)
        nn.init.normal_(self.item_vectors.weight, std=0.02)
        self.norm = nn.RMSNorm(self.llm.width)
        self.project = nn.Linear(self.llm.width, config.dim, bias=False)

    def encode(
        self,
        tokens: Tensor,
        lengths: Tensor,
        item_rows: Tensor,
        progress: OnCount = uncounted,
    ) -> ItemStates:
        """Encode as `forward` does, items of like length together: less padding, less work.

        Args:
            progress: hears of the items.
        """
        order = lengths.argsort()
        parts = []
        for places in order.split(BUCKET):
            longest = int(lengths[places[-1]])
            parts.append(self(tokens[places, :longest], lengths[places], item_rows[places]))
            progress(min(len(parts) * BUCKET, len(order)), len(order))
        back = order.argsort()
        return ItemStates(
            torch.cat([part.kept for part in parts])[back],
            torch.cat([part.is_kept for part in parts])[back],
            torch.cat([part.embeddings for part in parts])[back],
        )

    def forward(self, tokens: Tensor, lengths: Tensor, item_rows: Tensor) -> ItemStates:
        """Encode items.

        Args:
            tokens: (N, T) int, padded right; each row's last token is [ITEM].
            lengths: (N,) int.
            item_rows: (N,) int, rows of the learned vectors; NO_VECTOR for none.
        """
        every = torch.arange(len(tokens), device=tokens.device)
        states = self.llm.shallow(self.embed(tokens, lengths, item_rows))  # (N, T, F)
        embeddings = F.normalize(
            cast(Tensor, self.project(self.norm(states[every, lengths - 1]))), dim=-1
        )
        return ItemStates(*self.keep(states, lengths), embeddings)

    def embed(self, tokens: Tensor, lengths: Tensor, item_rows: Tensor) -> Tensor:
        """Return what the shallow layers read, (N, T, F): tokens, and vectors at [ITEM]."""
        every = torch.arange(len(tokens), device=tokens.device)
        states = self.llm.embed(tokens)  # (N, T, F)
        vectors = self.item_vectors(item_rows.clamp_min(0))  # (N, F)
        vectors = vectors * (item_rows >= 0).unsqueeze(-1).to(vectors.dtype)
        return states.index_put((every, lengths - 1), vectors, accumulate=True)

    def keep(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last t of the states (N, T, F), (N, t, F), and which there are, (N, t)."""
        back = torch.arange(self.config.n_kept - 1, -1, -1, device=states.device)
        places = lengths.unsqueeze(1) - 1 - back  # (N, t)
        every = torch.arange(len(states), device=states.device).unsqueeze(1)
        return states[every, places.clamp_min(0)], places >= 0
