"""`freshet train DATA`: a model bundle, with its figures, shown as it learns."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from encoder.bundle import save_bundle
from encoder.config import ModelConfig
from encoder.evaluate import PROTOCOL, compare, leave_one_out
from encoder.evaluate_command import figures_table
from encoder.histories import read_histories
from encoder.recipe import Recipe
from encoder.train import Progress as Step
from encoder.train import Texts, train_bundle
from infra.bench import machine
from infra.datasets import load
from infra.settings import SharedSettings

N_THREADS = 2


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
    started = time.monotonic()
    console = Console(stderr=True)
    torch.set_num_threads(N_THREADS)
    dataset = load(data, data_dir)
    texts = Texts(dataset.items["item_id"].to_pylist(), dataset.items["text"].to_pylist())
    split = leave_one_out(read_histories(dataset.events, texts.item_ids))
    recipe = Recipe(seed=seed) if epochs is None else Recipe(seed=seed, epochs=epochs)
    if quick:
        recipe = recipe.quick()
    console.print(
        f"{dataset.name}: {len(texts.item_ids):,} items, {len(split.histories):,} users, "
        f"{sum(map(len, split.histories)):,} events to learn from"
    )
    with _bars(console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: Step) -> None:
            shown = "  ".join(f"{name} {loss:.3f}" for name, loss in step.losses.items())
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(step.stage, total=step.of, losses="")
            bars.update(tasks[step.stage], completed=step.done, total=step.of, losses=shown)

        bundle, shares = train_bundle(texts, split.histories, ModelConfig(), recipe, report)
        trained_s = time.monotonic() - started

        def evaluated(name: str, done: int, of: int) -> None:
            report(Step(f"evaluate {name}", done, of, {}))

        figures = compare(bundle, split, evaluated)
    metrics = {
        "figures": figures,
        "protocol": PROTOCOL,
        "data": dataset.name,
        "n_users": len(split.targets),
        "trained_on": "all events but each user's last",
        "quick": quick,
        "recipe": recipe.to_dict(),
        "win_shares": shares,
        "train_seconds": round(trained_s, 1),
        "machine": machine(),
        "torch": torch.__version__,
    }
    folder = out or SharedSettings().state / "bundle"
    version = save_bundle(replace(bundle, metrics=metrics), folder)
    console.print(figures_table(figures))
    console.print(f"model {version} in {folder}, {time.monotonic() - started:.0f} s in all")


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
        console=console,
    )
