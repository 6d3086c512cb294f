"""One training and one judgement, without validation, run folder or bundle."""

from collections.abc import Sequence

import torch

from encoder.bench.variants import Variant
from encoder.bundle import Bundle
from encoder.codebook import Floats
from encoder.config import ModelConfig
from encoder.evaluate import Served
from encoder.histories import History
from encoder.peers import Peers
from encoder.ranking import Ranking, rank
from encoder.recipe import Recipe
from encoder.splits import Split
from encoder.start import Texts, checked, starting_bundle, tokens_of
from encoder.trainer import Trainer


def ranked(
    variant: Variant,
    texts: Texts,
    known: Sequence[History],
    split: Split,
    recipe: Recipe,
    sizes: ModelConfig,
) -> Ranking:
    """Train a variant to the end of its recipe and rank the catalogue for each case."""
    return judged(variant, trained(variant, texts, known, recipe, sizes), split)


def judged(variant: Variant, bundle: Bundle, split: Split) -> Ranking:
    """Rank the catalogue for each case."""
    served = Served(bundle)

    def scores(some: Sequence[History]) -> Floats:
        return served.scores([variant.cut(history) for history in some], refine=variant.refined)

    return rank(split, scores)


def trained(
    variant: Variant,
    texts: Texts,
    histories: Sequence[History],
    recipe: Recipe,
    sizes: ModelConfig,
) -> Bundle:
    """Train a variant to the end of its recipe."""
    config, recipe = variant.sized(sizes), variant.recipe(recipe)
    histories = checked(texts, [variant.cut(history) for history in histories])
    start = variant.change(
        starting_bundle(texts, histories, config, recipe, lambda done, of, loss: None)
    )
    trainer = Trainer(
        start,
        tokens_of(start),
        histories,
        recipe,
        peers=Peers(),
        device=torch.device("cpu"),
        objective=variant.objective,
    )
    for _ in trainer.run():
        pass
    return trainer.bundle()
