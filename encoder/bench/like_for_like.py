"""`freshet bench rectools`: ours against RecTools' SASRec on MovieLens-100K, like for like.

The same split (leave-one-out, full ranking, seen filtered), three seeds each, differences by a
paired bootstrap over users of the means over seeds. RecTools runs in an environment of its own
(encoder/bench/rival_sasrec.py), which also judges our lists with its own metrics. Its side takes an
hour or two and depends on nothing of ours but the split, so it is kept.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from encoder.bench.trial import ranked
from encoder.bench.variants import VARIANTS
from encoder.config import ModelConfig
from encoder.histories import History
from encoder.history_store import read_histories
from encoder.ranking import Ranking, Values, accuracy, interval_of_difference, means
from encoder.recipe import Recipe
from encoder.splits import Split, leave_one_out
from encoder.start import Texts
from encoder.threads import use_threads
from infra.bench import Result
from infra.datasets import open_dataset
from infra.settings import SharedSettings
from protos.errors import NotReady

METRICS = ("hr@10", "ndcg@10")
HYBRID = VARIANTS["hybrid"]
SEEDS = (0, 1, 2)
DIFFERENCE_BAR = 1e-5
"""Of one list's metrics by two libraries: more than rounding is another metric."""
RIVAL = Path(__file__).with_name("rival_sasrec.py")
RIVAL_EPOCHS = 30
"""As many as did best on validation, chosen among 10, 20, ... 50 (docs/log.md, 2026-11-22); 0
chooses anew, for fifty epochs more."""

console = Console(stderr=True)


def rectools(quick: bool) -> Result:
    """Train both, judge both. The bar: ours is higher on both metrics, and both libraries say the
    same of one list."""
    use_threads()
    items, histories = read_histories(open_dataset("ml-100k"))
    split = leave_one_out(histories)
    recipe = replace(Recipe().quick() if quick else Recipe(), validation_users=0, patience=0)
    seeds = SEEDS[:1] if quick else SEEDS
    ours = []
    for seed in seeds:
        with console.status(f"ours, seed {seed}"):
            sown = replace(recipe, seed=seed)
            ours.append(
                ranked(HYBRID, Texts.of(items), split.histories, split, sown, ModelConfig())
            )
    return compared(ours, _rival(split, ours[0], 1 if quick else RIVAL_EPOCHS, seeds))


@dataclass(frozen=True, slots=True)
class Rival:
    rankings: Sequence[Ranking]
    n_epochs: int
    judged: Mapping[str, float]
    """Our first list, by their metrics."""


def compared(ours: Sequence[Ranking], theirs: Rival) -> Result:
    """Judge rankings of the same cases, one a seed."""
    of_ours, of_theirs = _over_seeds(ours), _over_seeds(theirs.rankings)
    mine, rival = means(of_ours), means(of_theirs)
    difference = largest_difference(means(accuracy(ours[0].hits)), theirs.judged)
    is_higher = all(mine[name] > rival[name] for name in METRICS)
    return Result(
        figures={name: round(mine[name], 4) for name in METRICS}
        | {f"{name}_gain": _interval(of_ours[name], of_theirs[name]) for name in METRICS}
        | {"largest_difference_of_metrics": round(difference, 7)},
        against={
            "RecTools SASRec": {name: round(rival[name], 4) for name in METRICS}
            | {"epochs": theirs.n_epochs}
        },
        bar=dict.fromkeys(METRICS, "> RecTools SASRec")
        | {"largest_difference_of_metrics": f"<= {DIFFERENCE_BAR}"},
        ok=is_higher and difference <= DIFFERENCE_BAR,
    )


def largest_difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """Return that of the values of one list by two libraries; not a number if one of them is."""
    return float(np.max([abs(value - theirs[name]) for name, value in ours.items()]))


def _over_seeds(rankings: Sequence[Ranking]) -> dict[str, Values]:
    """Return each user's mean over seeds of each metric."""
    found = [accuracy(one.hits) for one in rankings]
    return {name: np.mean([one[name] for one in found], axis=0) for name in METRICS}


def _interval(ours: Values, theirs: Values) -> list[float]:
    return [round(end, 4) for end in interval_of_difference(ours, theirs)]


def _rival(split: Split, ours: Ranking, n_epochs: int, seeds: Sequence[int]) -> Rival:
    events = _events(split)
    done = sha256(RIVAL.read_bytes() + str(n_epochs).encode())
    for column in events.columns:
        done.update(column.to_numpy())
    folder = SharedSettings().state / "bench" / "rectools" / done.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(events, folder / "events.parquet")
    np.save(folder / "targets.npy", ours.targets)
    np.save(folder / "ours.npy", ours.tops)
    _run_rival(folder, n_epochs, seeds)
    rankings = [Ranking(np.load(folder / f"tops-{seed}.npy"), ours.targets) for seed in seeds]
    said = json.loads((folder / "judged.json").read_text())
    return Rival(rankings, said["epochs"], said["ours"])


def _events(split: Split) -> pa.Table:
    return pa.concat_tables(_columns(user, one) for user, one in enumerate(split.histories))


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
