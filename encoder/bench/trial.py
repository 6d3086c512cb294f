"""One training and one judgement, without validation, run folder or bundle."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from encoder.bench.variants import Variant
from encoder.codebook import Floats
from encoder.config import ModelConfig
from encoder.evaluate import Served
from encoder.histories import History
from encoder.peers import Peers
from encoder.ranking import Values, accuracy, rank
from encoder.recipe import Recipe
from encoder.splits import Split
from encoder.start import Texts, checked, starting_bundle, tokens_of
from encoder.trainer import Trainer


def judged(variant: Variant, texts: Texts, split: Split, recipe: Recipe) -> dict[str, Values]:
    """Train a variant to the end of its recipe and return its metrics, a value a user."""
    config, recipe = variant.sized(ModelConfig()), variant.budgeted(recipe)
    histories = checked(texts, [variant.cut(history) for history in split.histories])
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
    catalogue = replace(start.catalogue, embeddings=trainer.embeddings().numpy())
    served = Served(replace(start, catalogue=catalogue))

    def scores(some: Sequence[History]) -> Floats:
        return served.scores([variant.cut(history) for history in some], refine=variant.refined)

    return accuracy(rank(split, scores).hits)
