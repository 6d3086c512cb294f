"""`freshet train`: a model bundle, with its figures, shown as it learns.

torch is loaded only when the command runs (encoder/threads.py says why).
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from encoder.threads import let_idle_threads_sleep


def train(
    what: Annotated[
        str, typer.Argument(help="A known data set (ml-100k, ...), a path, or a run file (.toml).")
    ],
    out: Annotated[Path | None, typer.Option(help="The bundle; default <state>/bundle.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data", help="Where known data sets are looked for first.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same model.", show_default="0")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the histories, warm-up not counted.")
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(
            help="Learn from this share of all events only, the oldest, to be judged on the rest."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="A poor model within a minute, for tests of plumbing.")
    ] = False,
) -> None:
    """Train a model on a data set and write its bundle. Each user's last event is held out, or all
    events after a moment (--until).

    Interrupted, the same command goes on where it was. With torchrun, on several devices.
    """
    let_idle_threads_sleep()
    from encoder.run_file import Run, read_run
    from encoder.training_run import train_to_bundle

    run = read_run(Path(what)) if what.endswith(".toml") else Run(data=what)
    recipe = run.recipe
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    run = replace(
        run,
        recipe=recipe.quick() if quick else recipe,
        out=out or run.out,
        until=run.until if until is None else until,
    )
    train_to_bundle(run, data_dir, is_quick=quick)
