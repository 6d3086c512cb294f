"""`freshet bench ablations`: what each idea is worth on MovieLens-100K.

Every variant (encoder/bench/variants.py) has the same budget: the steps of the default recipe, no
early stopping. Asked for are the last five events of each user, each from all before it, for a
single one a user tells no two variants apart. Each is given with the 95 % interval of its
difference to the hybrid (where a variant names another, to that), by a paired bootstrap over users.
Runs that have ended are kept in <state>/bench/ablations and not repeated.
"""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from encoder.bench.trial import ranked
from encoder.bench.variants import VARIANTS
from encoder.config import ModelConfig
from encoder.history_store import read_histories
from encoder.plots import plot_differences
from encoder.ranking import Values, accuracy, interval_of_difference
from encoder.recipe import Recipe
from encoder.splits import last_events
from encoder.start import Texts
from infra.bench import Result, commit
from infra.datasets import open_dataset
from infra.settings import SharedSettings
from infra.stack.state import write_atomically

METRICS = ("hr@10", "ndcg@10")
N_LAST = 5
"""Events of each user."""
REFERENCE = "hybrid"
QUICK = (REFERENCE, "light", "k1")


def ablations(quick: bool) -> Result:
    """Train and judge every variant. There is no bar."""
    names = QUICK if quick else tuple(VARIANTS)
    folder = SharedSettings().state / "bench" / "ablations" / ("quick" if quick else commit())
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not _file(folder, name).exists()]
    # One thread each: two processes do twice the work of one with two threads.
    screen = Console(stderr=True)
    n_processes = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(n_processes, get_context("spawn")) as pool:
        runs = [pool.submit(_judge, name, quick, folder) for name in missing]
        for run in track(as_completed(runs), "variants", total=len(runs), console=screen):
            run.result()
    found = {name: _read(_file(folder, name)) for name in names}
    figures = {name: figures_of(name, found) for name in names}
    others = [name for name in names if name != REFERENCE]
    differences = {
        metric: {_label(name): figures[name][_difference(metric, name)] for name in others}
        for metric in METRICS
    }
    screen.print(f"plot: {plot_differences(differences, REFERENCE, folder / 'ablations.png')}")
    return Result(figures)


def _judge(name: str, quick: bool, folder: Path) -> None:
    """Train one variant, and keep what each of its cases is worth."""
    torch.set_num_threads(1)
    items, histories = read_histories(open_dataset("ml-100k"))
    known, split = last_events(histories, N_LAST)
    recipe = replace(Recipe().quick() if quick else Recipe(), validation_users=0, patience=0)
    ranking = ranked(VARIANTS[name], Texts.of(items), known, split, recipe, ModelConfig())
    values = accuracy(ranking.hits)
    by_user = {name: values[name].reshape(-1, N_LAST).mean(axis=1).tolist() for name in METRICS}
    write_atomically(_file(folder, name), json.dumps(by_user))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _read(file: Path) -> dict[str, Values]:
    return {name: np.array(one) for name, one in json.loads(file.read_text()).items()}


def figures_of(name: str, found: Mapping[str, Mapping[str, Values]]) -> dict[str, Any]:
    """Return each metric of a variant, and lower end, mean and upper end of its difference to the
    one that it is compared with, found as well."""
    ours, theirs = found[name], found[VARIANTS[name].against]
    figures: dict[str, Any] = {}
    for metric in METRICS:
        low, high = interval_of_difference(ours[metric], theirs[metric])
        mean = float(ours[metric].mean())
        differences = (low, mean - float(theirs[metric].mean()), high)
        figures[metric] = round(mean, 4)
        figures[_difference(metric, name)] = [round(one, 4) for one in differences]
    return figures


def _difference(metric: str, name: str) -> str:
    return f"{metric} to {VARIANTS[name].against}"


def _label(name: str) -> str:
    against = VARIANTS[name].against
    return name if against == REFERENCE else f"{name}, to {against}"
