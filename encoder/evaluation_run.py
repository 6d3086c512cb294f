"""The work of `freshet evaluate`: load, rank, and show."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from encoder.bundle import load_bundle
from encoder.evaluate import PROTOCOL, evaluate_all
from encoder.histories import read_histories
from encoder.splits import leave_one_out
from encoder.threads import N_THREADS
from infra.datasets import load


def evaluate_bundle(bundle: Path, data: str, data_dir: Path | None, *, as_json: bool) -> None:
    """Rank each user's last event and print the figures."""
    torch.set_num_threads(N_THREADS)
    loaded = load_bundle(bundle)
    dataset = load(data, data_dir)
    split = leave_one_out(read_histories(dataset.events, loaded.catalogue.item_ids))
    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=of)
            bars.update(tasks[name], completed=done)

        found = evaluate_all(loaded, split, split.histories, show)
        figures = {name: one.figures for name, one in found.items()}
    if as_json:
        said = {
            "model_version": loaded.model_version,
            "codebook_version": loaded.codebook_version,
            "data": dataset.name,
            "n_users": len(split.targets),
            "protocol": PROTOCOL,
            "figures": figures,
        }
        typer.echo(json.dumps(said))
        return
    console = Console()
    console.print(figures_table(figures))
    console.print(f"{len(split.targets):,} users; {PROTOCOL}", highlight=False)


SHOWN = ("hr@1", "hr@5", "hr@10", "hr@50", "ndcg@10", "mrr@200")


def figures_table(figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Return one row a recommender, one column a metric."""
    table = Table("", *(name.upper() for name in SHOWN))
    for recommender, values in figures.items():
        table.add_row(recommender, *(f"{values[name]:.4f}" for name in SHOWN))
    return table
