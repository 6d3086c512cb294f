"""`freshet bench ablations`: what each idea is worth on MovieLens-100K.

Every variant (encoder/bench/variants.py) has the same budget: the steps of the default recipe, no
early stopping. Each is given with the 95 % interval of its difference to the hybrid, by a paired
bootstrap over users. Runs that have ended are kept in <state>/bench/ablations and not repeated.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from encoder.bench.trial import judged
from encoder.bench.variants import VARIANTS, Variant
from encoder.config import ModelConfig
from encoder.history_store import read_histories
from encoder.ranking import Values, paired_bootstrap
from encoder.recipe import Recipe
from encoder.splits import Split, leave_one_out
from encoder.start import Texts
from encoder.threads import N_THREADS
from infra.bench import Result, commit
from infra.datasets import open_dataset
from infra.settings import SharedSettings
from infra.stack.state import write_atomically

METRICS = ("hr@10", "ndcg@10")
QUICK = ("hybrid", "light", "k1")


def ablations(quick: bool) -> Result:
    """Train and judge every variant. There is no bar."""
    torch.set_num_threads(N_THREADS)
    items, histories = read_histories(open_dataset("ml-100k"))
    texts, split = Texts.of(items), leave_one_out(histories)
    recipe = replace(Recipe().quick() if quick else Recipe(), validation_users=0, patience=0)
    folder = SharedSettings().state / "bench" / "ablations" / ("quick" if quick else commit())
    names = QUICK if quick else tuple(VARIANTS)
    found = {}
    for name in track(names, "variants", console=Console(stderr=True)):
        found[name] = _values(VARIANTS[name], texts, split, recipe, folder / f"{name}.json")
    return Result({name: _figures(one, found["hybrid"]) for name, one in found.items()})


def _values(
    variant: Variant, texts: Texts, split: Split, recipe: Recipe, file: Path
) -> dict[str, Values]:
    """Return each user's metrics, from an earlier run where there was one."""
    if not file.exists():
        values = judged(variant, texts, split, recipe, ModelConfig())
        values = {name: values[name] for name in METRICS}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps({name: one.tolist() for name, one in values.items()}))
    return {name: np.array(one) for name, one in json.loads(file.read_text()).items()}


def _figures(ours: Mapping[str, Values], hybrid: Mapping[str, Values]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in METRICS:
        low, high = np.quantile(paired_bootstrap(ours[name], hybrid[name]), [0.025, 0.975])
        found[name] = round(float(ours[name].mean()), 4)
        found[f"{name} to hybrid"] = [round(float(low), 4), round(float(high), 4)]
    return found
