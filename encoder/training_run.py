"""The work of `freshet train`: read, train, evaluate, write, and show all of it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from encoder.bundle import refuse_foreign_folder, save_bundle
from encoder.config import ModelConfig
from encoder.evaluate import PROTOCOL, compare, leave_one_out
from encoder.evaluation_run import figures_table
from encoder.histories import read_histories
from encoder.recipe import Recipe
from encoder.threads import N_THREADS
from encoder.train import Progress as Step
from encoder.train import Texts, train_bundle
from infra.bench import machine
from infra.datasets import load
from infra.settings import SharedSettings


def train_to_bundle(
    data: str, data_dir: Path | None, out: Path | None, recipe: Recipe, *, is_quick: bool
) -> None:
    """Train on a data set, evaluate as served, and write the bundle; progress on standard error."""
    started = time.monotonic()
    console = Console(stderr=True)
    torch.set_num_threads(N_THREADS)
    folder = out or SharedSettings().state / "bundle"
    refuse_foreign_folder(folder)
    dataset = load(data, data_dir)
    texts = Texts(dataset.items["item_id"].to_pylist(), dataset.items["text"].to_pylist())
    split = leave_one_out(read_histories(dataset.events, texts.item_ids))
    console.print(
        f"{dataset.name}: {len(texts.item_ids):,} items, {len(split.histories):,} users, "
        f"{sum(map(len, split.histories)):,} events to learn from"
    )
    with Screen(console) as screen:
        bundle, shares = train_bundle(texts, split.histories, ModelConfig(), recipe, screen.step)
        trained_s = time.monotonic() - started
        figures = compare(bundle, split, screen.evaluated)
    made = {"recipe": recipe.to_dict(), "win_shares": shares, "train_seconds": round(trained_s, 1)}
    metrics = {
        "figures": figures,
        "protocol": PROTOCOL,
        "trained_on": "all events but each user's last",
        "data": dataset.name,
        "n_users": len(split.targets),
        "quick": is_quick,
        **made,
        "machine": machine(),
        "torch": torch.__version__,
    }
    version = save_bundle(replace(bundle, metrics=metrics), folder)
    console.print(figures_table(figures))
    console.print(f"model {version} in {folder}, {time.monotonic() - started:.0f} s in all")


class Screen:
    """One progress bar a stage, with its losses. A context manager."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<21}"),
            BarColumn(bar_width=8),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[losses]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def step(self, step: Step) -> None:
        if step.stage not in self._tasks:
            self._tasks[step.stage] = self._bars.add_task(step.stage, losses="")
        self._bars.update(
            self._tasks[step.stage],
            completed=step.done,
            total=step.of,
            losses=" ".join(f"{name} {loss:.2f}" for name, loss in step.losses.items()),
        )

    def evaluated(self, name: str, done: int, of: int) -> None:
        self.step(Step(f"evaluate {name}", done, of, {}))
