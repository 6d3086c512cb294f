"""The work of `freshet evaluate`: load, rank, and show."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from encoder.bundle import load_bundle
from encoder.evaluate import Details, details, evaluate_all
from encoder.history_store import read_histories
from encoder.peers import Peers
from encoder.plots import plot_evaluation, plot_training
from encoder.protocols import Kind, judge
from encoder.run_folder import RunFolder
from encoder.threads import use_threads
from infra.datasets import open_dataset
from protos.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Options:
    kind: Kind = Kind.LEAVE_ONE_OUT
    limit: int | None = None
    plots: Path | None = None
    as_json: bool = False
    device: str | None = None
    """As torch names it; None: a GPU where there is one."""


def evaluate_bundle(bundle: Path, data: str, data_dir: Path | None, options: Options) -> None:
    """Rank what a protocol holds out, and print or plot the figures.

    Raises InvalidInput when the model has learned from it, or there is no such device.
    """
    use_threads()
    device = _device(options.device)
    loaded = load_bundle(bundle)
    dataset = open_dataset(data, data_dir)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=of)

        _, histories = read_histories(dataset, loaded.catalogue.item_ids, on_part=show)
        moment_ms = cast(int | None, loaded.metrics.get("trained_until_ms"))
        protocol = judge(options.kind, histories, moment_ms, options.limit)
        for remark in (*dataset.report.remarks(), *histories.kept.remarks()):
            console.print(f"note: {escape(remark)}", highlight=False)
        evaluated = evaluate_all(loaded, protocol, show, str(device))
        found = details(evaluated, loaded, protocol)
    if options.as_json:
        said = {
            "model_version": loaded.model_version,
            "codebook_version": loaded.codebook_version,
            "data": dataset.name,
            "split": protocol.kind,
            "n_cases": len(protocol.split),
            "data_kept": asdict(histories.kept),
            "protocol": protocol.text,
            "figures": {name: one.figures for name, one in found.items()},
            "details": {name: asdict(one) for name, one in found.items()},
        }
        typer.echo(json.dumps(said))
    else:
        screen = Console()
        for table in _tables(found):
            screen.print(table)
        screen.print(f"{len(protocol.split):,} cases; {protocol.text}", highlight=False)
    if options.plots is not None:
        options.plots.mkdir(parents=True, exist_ok=True)
        made = [plot_evaluation(found, options.plots / "evaluation.png")]
        if (log := RunFolder(bundle).log).exists():
            made.append(plot_training(log, options.plots / "training.png"))
        typer.echo(f"plots: {', '.join(map(str, made))}", err=True)


def _device(name: str | None) -> torch.device:
    if name is None:
        return Peers().device()
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch knows no CUDA
        reason = str(error).partition("\n")[0]
        raise InvalidInput(
            f"cannot compute on --device {name} ({reason}); give cpu, or cuda where there is a GPU"
        ) from error


SHOWN = ("hr@1", "hr@5", "hr@10", "hr@50", "ndcg@10", "mrr@200")


def figures_table(figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Return one row a recommender, one column a metric."""
    table = Table("", *(name.upper() for name in SHOWN))
    for recommender, values in figures.items():
        table.add_row(recommender, *(f"{values[name]:.4f}" for name in SHOWN))
    return table


def _tables(found: Mapping[str, Details]) -> list[Table]:
    tables = [figures_table({name: one.figures for name, one in found.items()})]
    beyond = Table("", *next(iter(found.values())).beyond)
    for name, one in found.items():
        beyond.add_row(name, *(f"{value:.4f}" for value in one.beyond.values()))
    tables.append(beyond)
    for what, groups in (
        ("HR@10 by length of the history", {name: one.by_length for name, one in found.items()}),
        ("HR@10 by popularity of the item", {n: one.by_popularity for n, one in found.items()}),
    ):
        first = next(iter(groups.values()))
        table = Table("", *(f"{name}\n({values['n_cases']:.0f})" for name, values in first.items()))
        table.title = what
        for name, of_group in groups.items():
            table.add_row(name, *(f"{values['hr@10']:.4f}" for values in of_group.values()))
        tables.append(table)
    return tables
