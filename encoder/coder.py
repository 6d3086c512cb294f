"""The codebook's own item encoder: a tower that tells items apart as histories do.

Its targets are the factors of co-occurrence (encoder/neighbours.py). With the learned vector of an
item it starts at the factors exactly; without, it learns them from the text, for items to come and
for those that nobody has met yet.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from encoder.base_llm import BaseLlm
from encoder.codebook import Codebook, fit_codebook
from encoder.config import ModelConfig
from encoder.items import NO_VECTOR, ItemTower
from encoder.model import CatalogueTokens
from encoder.progress import OnPart, named, unheard

BATCH = 384
LEARNING_RATE = 3e-3


def fit_coder(
    config: ModelConfig,
    llm: BaseLlm,
    catalogue: CatalogueTokens,
    factors: Tensor,
    *,
    n_steps: int,
    rng: np.random.Generator,
    progress: Callable[[float], None],
) -> ItemTower:
    """Train a tower of the shallow layers towards `factors`, on the device of the catalogue.

    A checkpoint's layers stay as they are: they know texts already, and may be large.

    Args:
        factors: (N, D), zeros for an item that nobody has met; on the CPU.
        progress: called after each step with its loss, 1 - cosine.
    """
    tower = ItemTower(config, llm.config, len(factors), config.shallow_layers)
    if llm.weights:
        tower.llm.load_base(llm.weights)
        tower.llm.requires_grad_(False)
    met = factors.any(dim=1).nonzero().squeeze(1).numpy()
    start_from(tower, factors)
    device = catalogue.lengths.device
    tower.to(device)
    factors = factors.to(device)
    learned = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / max(1, n_steps)))
    )
    tower.train()
    for _ in range(n_steps):
        places = torch.from_numpy(rng.permutation(met)[:BATCH])
        rows = torch.where(torch.from_numpy(rng.random(len(places)) < 0.5), NO_VECTOR, places)
        places, rows = places.to(device), rows.to(device)
        batch = catalogue.take(places)
        found = tower.encode(batch.tokens, batch.lengths, rows).embeddings
        loss = (1 - (found * factors[places]).sum(dim=-1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(loss.item())
    return tower.requires_grad_(True).eval()


def start_from(tower: ItemTower, factors: Tensor) -> None:
    """Set learned vectors and projection so that each item starts at its factors, (N, D)."""
    dim = min(factors.shape[1], tower.llm.width)
    with torch.no_grad():
        torch.nn.init.eye_(tower.project.weight)
        tower.item_vectors.weight.zero_()
        # Length sqrt(D) = 1 a coordinate, far above the token embeddings' 0.02.
        tower.item_vectors.weight[:, :dim] = factors[:, :dim] * factors.shape[1] ** 0.5


def codebook_of(
    config: ModelConfig,
    coder: ItemTower,
    catalogue: CatalogueTokens,
    seed: int,
    on_part: OnPart = unheard,
) -> tuple[Codebook, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Fit the codebook on the coder's embeddings of all items; return it and their codes (N, Q).

    Args:
        coder: on the device of the catalogue.
    """
    rows = torch.arange(len(catalogue.lengths), device=catalogue.lengths.device)
    heard = named(on_part, "encode items")
    with torch.inference_mode():
        encoded = coder.encode(catalogue.tokens, catalogue.lengths, rows, heard)
    found = encoded.embeddings.cpu().numpy()
    codebook = fit_codebook(
        found,
        n_levels=config.n_levels,
        n_centres=config.n_centres,
        seed=seed,
        progress=named(on_part, "codebook"),
    )
    return codebook, codebook.encode(found)
