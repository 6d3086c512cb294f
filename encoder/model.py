"""The whole model: item tower, light recommender, LLM recommender, as one module."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encoder.codebook import Codebook
from encoder.config import ModelConfig
from encoder.items import ItemTower
from encoder.light import LightRecommender
from encoder.llm import LlmRecommender


@dataclass(frozen=True, slots=True)
class CatalogueTokens:
    """Texts of N items as tensors."""

    tokens: Tensor  # (N, T) int
    lengths: Tensor  # (N,) int

    def to(self, device: torch.device) -> "CatalogueTokens":
        return CatalogueTokens(self.tokens.to(device), self.lengths.to(device))

    def take(self, places: Tensor) -> "CatalogueTokens":
        return CatalogueTokens(self.tokens[places], self.lengths[places])


class Recommender(nn.Module):
    def __init__(
        self,
        config: ModelConfig,
        llm_config: Mapping[str, object],
        codebook: Codebook,
        n_items: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.tower = ItemTower(config, llm_config, n_items)
        self.light = LightRecommender(
            config, torch.from_numpy(codebook.centres), torch.from_numpy(codebook.magnitudes)
        )
        self.refine = LlmRecommender(config, self.tower.llm.width)
