"""`freshet train DATA`: a model bundle, with its figures, shown as it learns.

torch is loaded only when the command runs (encoder/threads.py says why).
"""

from pathlib import Path
from typing import Annotated

import typer

from encoder.recipe import Recipe
from encoder.threads import let_idle_threads_sleep


def train(
    data: Annotated[str, typer.Argument(help="A known data set (ml-100k, ...) or a path.")],
    out: Annotated[Path | None, typer.Option(help="The bundle; default <state>/bundle.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data", help="Where known data sets are looked for first.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the histories, warm-up not counted.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="A poor model in some 20 seconds, for tests of plumbing.")
    ] = False,
) -> None:
    """Train a model on a data set and write its bundle. Each user's last event is held out."""
    let_idle_threads_sleep()
    from encoder.training_run import train_to_bundle

    recipe = Recipe(seed=seed) if epochs is None else Recipe(seed=seed, epochs=epochs)
    recipe = recipe.quick() if quick else recipe
    train_to_bundle(data, data_dir, out, recipe, is_quick=quick)
