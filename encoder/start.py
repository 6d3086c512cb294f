"""What a run starts from: everything but what the light and the LLM recommender learn.

    1. the LLM before training, and co-occurrence factors of the catalogue (no gradient)
    2. coder: the factors from text; codebook: fitted on the coder's embeddings
    3. a model whose item vectors start at the factors, at nothing for items that nobody has met

It is a bundle like any other, so a resumed run reads back what it started from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from encoder import digests
from encoder.base_llm import BaseLlm, read_llm, small_llm
from encoder.bundle import Bundle, Catalogue
from encoder.coder import codebook_of, fit_coder, start_from
from encoder.config import ModelConfig
from encoder.histories import NO_ITEMS, Beginnings, History, item_counts, lengths_of
from encoder.items import ItemTower
from encoder.model import CatalogueTokens, Recommender
from encoder.neighbours import cooccurrence, item_factors
from encoder.progress import OnPart, named, unheard
from encoder.recipe import Recipe
from encoder.texts import item_tokens
from protos.errors import InvalidInput

REACH = 30
"""Events apart within which two items are neighbours."""

CPU = torch.device("cpu")

OnStep = Callable[[int, int, float], None]
"""(steps done, of, loss) of the coder"""


@dataclass(frozen=True, slots=True)
class Texts:
    """The catalogue as given."""

    item_ids: Sequence[str]
    texts: Sequence[str]

    @classmethod
    def of(cls, items: pa.Table) -> "Texts":
        """Return those of a table as infra.datasets reads it."""
        return cls(items["item_id"].to_pylist(), items["text"].to_pylist())

    def remarks(self) -> list[str]:
        """Return what its owner should know."""
        n_blank = sum(not text.strip() for text in self.texts)
        if not n_blank:
            return []
        return [
            f"{n_blank:,} of {len(self.texts):,} items have no text; what they are is learned from "
            "events alone"
        ]

    def digest(self) -> str:
        return digests.of_texts(self.item_ids, self.texts)


def checked(texts: Texts, histories: Sequence[History]) -> Sequence[History]:
    """Return the histories that can be learned from.

    Raises InvalidInput for an empty or ambiguous catalogue, or when no user has two events.
    """
    lengths = lengths_of(histories)
    usable = np.flatnonzero(lengths >= 2)
    if not texts.item_ids:
        raise InvalidInput(NO_ITEMS)
    if len(set(texts.item_ids)) != len(texts.item_ids):
        raise InvalidInput("the catalogue names an item twice; item ids must be unique")
    if not len(usable):
        raise InvalidInput("no user has two events to learn from, besides what is held out")
    return Beginnings(histories, usable, lengths[usable])


def starting_bundle(
    texts: Texts,
    histories: Sequence[History],
    config: ModelConfig,
    recipe: Recipe,
    on_step: OnStep,
    checkpoint: Path | None = None,
    *,
    device: torch.device = CPU,
    on_part: OnPart = unheard,
) -> Bundle:
    """Return an untrained bundle; the same arguments give the same on the same machine.

    Args:
        histories: what `checked` returned.
        checkpoint: of an LLM; None for a small one with weights at random.
        device: where the coder learns; what is returned is on the CPU.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    llm = read_llm(checkpoint, config) if checkpoint else small_llm(config, texts.texts)
    tokens = CatalogueTokens(
        *map(torch.from_numpy, item_tokens(llm.tokenizer, texts.texts, config.max_item_tokens))
    )
    counts = cooccurrence(
        histories, len(texts.item_ids), reach=REACH, progress=named(on_part, "neighbours")
    )
    factors = torch.from_numpy(item_factors(counts, config.dim, recipe.seed))
    factors[torch.from_numpy(item_counts(histories, len(factors)) == 0)] = 0
    tokens = tokens.to(device)
    coder = _fitted_coder(config, llm, tokens, factors, recipe, rng, on_step)
    codebook, codes = codebook_of(config, coder, tokens, recipe.seed, on_part)
    coder.cpu()
    model = Recommender(config, llm.config, codebook, len(factors))
    if llm.weights:
        model.tower.llm.load_base(llm.weights)
    model.tower.load_state_dict(coder.state_dict(), strict=False)
    start_from(model.tower, factors)
    catalogue = Catalogue(texts.item_ids, texts.texts, factors.numpy(), codes)
    return Bundle(config, llm.config, model, codebook, coder, llm.tokenizer, catalogue, {})


def tokens_of(bundle: Bundle) -> CatalogueTokens:
    """Return the texts of a bundle's catalogue as its model reads them."""
    found = item_tokens(bundle.tokenizer, bundle.catalogue.texts, bundle.config.max_item_tokens)
    return CatalogueTokens(*map(torch.from_numpy, found))


def _fitted_coder(
    config: ModelConfig,
    llm: BaseLlm,
    tokens: CatalogueTokens,
    factors: Tensor,
    recipe: Recipe,
    rng: np.random.Generator,
    on_step: OnStep,
) -> ItemTower:
    done = 0

    def say(loss: float) -> None:
        nonlocal done
        done += 1
        on_step(done, recipe.coder_steps, loss)

    return fit_coder(
        config, llm, tokens, factors, n_steps=recipe.coder_steps, rng=rng, progress=say
    )
