"""`freshet bench rectools`: ours against RecTools' SASRec on MovieLens-100K, like for like.

The same split (leave-one-out, full ranking, seen filtered), three seeds each, differences by a
paired bootstrap over users of the means over seeds. RecTools runs in an environment of its own
(encoder/bench/rival_sasrec.py), which also judges our lists with its own metrics.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console

from encoder.bench.trial import ranked
from encoder.bench.variants import VARIANTS
from encoder.config import ModelConfig
from encoder.histories import History
from encoder.history_store import read_histories
from encoder.ranking import Ranking, Values, accuracy, means, paired_bootstrap
from encoder.recipe import Recipe
from encoder.splits import Split, leave_one_out
from encoder.start import Texts
from encoder.threads import N_THREADS
from infra.bench import Result
from infra.datasets import open_dataset
from protos.errors import NotReady

METRICS = {"hr10": "hr@10", "ndcg10": "ndcg@10"}
SEEDS = (0, 1, 2)
RIVAL = Path(__file__).with_name("rival_sasrec.py")
CHOSEN = 0
"""Epochs: as many as do best on validation."""

console = Console(stderr=True)


def rectools(quick: bool) -> Result:
    """Train both, judge both. The bar: ours is higher on both metrics."""
    torch.set_num_threads(N_THREADS)
    items, histories = read_histories(open_dataset("ml-100k"))
    split = leave_one_out(histories)
    recipe = replace(Recipe().quick() if quick else Recipe(), validation_users=0, patience=0)
    seeds = SEEDS[:1] if quick else SEEDS
    ours = []
    for seed in seeds:
        with console.status(f"ours, seed {seed}"):
            recipe = replace(recipe, seed=seed)
            ours.append(ranked(VARIANTS["hybrid"], Texts.of(items), split, recipe, ModelConfig()))
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as scratch:
        folder = Path(scratch)
        _hand_over(split, ours[0], folder)
        _run_rival(folder, 1 if quick else CHOSEN, seeds)
        theirs = [Ranking(np.load(folder / f"tops-{s}.npy"), ours[0].targets) for s in seeds]
        said = json.loads((folder / "judged.json").read_text())
    mine = means(accuracy(ours[0].hits))
    figures: dict[str, object] = {}
    rival: dict[str, object] = {"epochs": said["epochs"]}
    for name, metric in METRICS.items():
        our_values, their_values = (_over_seeds(some, metric) for some in (ours, theirs))
        low, high = np.quantile(paired_bootstrap(our_values, their_values), [0.025, 0.975])
        figures[name] = round(float(our_values.mean()), 4)
        figures[f"{name}_gain"] = [round(float(low), 4), round(float(high), 4)]
        rival[name] = round(float(their_values.mean()), 4)
    figures["largest_difference_of_metrics"] = round(
        max(abs(value - said["ours"][name]) for name, value in mine.items()), 5
    )
    is_better = all(figures[name] > rival[name] for name in METRICS)  # type: ignore[operator]
    return Result(
        figures=figures,
        against={"RecTools SASRec": rival},
        bar=dict.fromkeys(METRICS, "> RecTools SASRec"),
        ok=is_better,
    )


def _over_seeds(rankings: Sequence[Ranking], metric: str) -> Values:
    """Return each user's mean over seeds."""
    found: Values = np.mean([accuracy(one.hits)[metric] for one in rankings], axis=0)
    return found


def _hand_over(split: Split, ours: Ranking, folder: Path) -> None:
    columns = [_columns(user, history) for user, history in enumerate(split.histories)]
    pq.write_table(pa.concat_tables(columns), folder / "events.parquet")
    np.save(folder / "targets.npy", ours.targets)
    np.save(folder / "ours.npy", ours.tops)


def _columns(user: int, history: History) -> pa.Table:
    places = np.arange(len(history))
    return pa.table(
        {"user": np.full(len(history), user), "item": history.item_rows, "place": places}
    )


def _run_rival(folder: Path, n_epochs: int, seeds: Sequence[int]) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        raise NotReady(f"{uv} is not here; run `make env`, which installs it")
    words = [str(folder), str(n_epochs), *map(str, seeds)]
    command = [str(uv), "run", "--no-project", "--script", str(RIVAL), *words]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode:
        raise NotReady(f"RecTools' side failed with {done.returncode}; see above")
