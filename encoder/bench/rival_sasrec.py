# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["rectools[torch]==0.19.*", "numpy<2", "pyarrow<20"]
# ///
"""RecTools' SASRec on a split of ours, in an environment of its own (like_for_like.py beside it).

    rival_sasrec.py FOLDER EPOCHS SEED...

reads FOLDER/events.parquet (user, item, place in the history) and leaves FOLDER/tops-SEED.npy,
(users, TOP) items, best first, -1 beyond the catalogue. EPOCHS 0: for how many is chosen on the
last event but the held-out one, then all seeds train that long on everything. What is there already
is not made again. It also judges FOLDER/ours.npy with RecTools' own metrics, by
FOLDER/targets.npy: FOLDER/judged.json.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import MRR, NDCG, HitRate, calc_metrics
from rectools.models import SASRecModel

TOP = 200
CUTS = (1, 5, 10, 50, 200)
EPOCHS_A_STEP, MAX_EPOCHS, PATIENCE = 10, 120, 2


def sasrec(seed: int, epochs: int) -> SASRecModel:
    """RecTools' defaults (2 blocks, 4 heads, 256 factors, full softmax), on all of a history."""
    seed_everything(seed)
    return SASRecModel(session_max_len=200, epochs=epochs, deterministic=True)


def dataset_of(events: pd.DataFrame) -> Dataset:
    start = pd.Timestamp("2000-01-01")
    table = events.rename(columns={"user": Columns.User, "item": Columns.Item})
    table[Columns.Datetime] = start + pd.to_timedelta(table.pop("place"), unit="s")
    table[Columns.Weight] = 1.0
    return Dataset.construct(table)


def tops(model: SASRecModel, dataset: Dataset, users: np.ndarray) -> np.ndarray:
    found = model.recommend(users, dataset, k=TOP, filter_viewed=True)
    ranked = np.full((len(users), TOP), -1)
    row_of = {user: row for row, user in enumerate(users)}
    rows = found[Columns.User].map(row_of)
    ranked[rows, found[Columns.Rank] - 1] = found[Columns.Item]
    return ranked


def chosen_epochs(events: pd.DataFrame) -> int:
    """Return after how many epochs the last known event of each user is foretold best."""
    is_last = events["place"] == events.groupby("user")["place"].transform("max")
    has_more = events.groupby("user")["place"].transform("size") > 1
    held = events[is_last & has_more].sort_values("user")
    dataset = dataset_of(events.drop(held.index))
    model = sasrec(0, EPOCHS_A_STEP)
    values: list[float] = []
    for _ in range(0, MAX_EPOCHS, EPOCHS_A_STEP):
        model.fit_partial(dataset, min_epochs=EPOCHS_A_STEP, max_epochs=EPOCHS_A_STEP)
        hits = tops(model, dataset, held["user"].to_numpy())[:, :10] == held[["item"]].to_numpy()
        values.append(float((hits / np.log2(np.arange(2, 12))).sum(axis=1).mean()))
        print(f"RecTools, {len(values) * EPOCHS_A_STEP} epochs: {values[-1]:.4f}", file=sys.stderr)
        if len(values) - int(np.argmax(values)) > PATIENCE:
            break
    return (int(np.argmax(values)) + 1) * EPOCHS_A_STEP


def judged(ranked: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return RecTools' metrics of lists, one target each."""
    users, places = np.nonzero(ranked >= 0)
    lists = {Columns.User: users, Columns.Item: ranked[users, places], Columns.Rank: places + 1}
    truth = {Columns.User: np.arange(len(targets)), Columns.Item: targets}
    metrics = {}
    for cut in CUTS:
        metrics[f"hr@{cut}"] = HitRate(k=cut)
        metrics[f"ndcg@{cut}"] = NDCG(k=cut, divide_by_achievable=True)
        metrics[f"mrr@{cut}"] = MRR(k=cut)
    return dict(calc_metrics(metrics, pd.DataFrame(lists), pd.DataFrame(truth)))


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    n_epochs, *seeds = map(int, sys.argv[2:])
    events, targets = pd.read_parquet(folder / "events.parquet"), np.load(folder / "targets.npy")
    dataset, users = dataset_of(events), np.arange(len(targets))
    chosen = folder / "epochs"
    if not chosen.exists():
        chosen.write_text(str(n_epochs or chosen_epochs(events)))
    n_epochs = int(chosen.read_text())
    for seed in seeds:
        if (tops_file := folder / f"tops-{seed}.npy").exists():
            continue
        model = sasrec(seed, n_epochs)
        model.fit(dataset)
        part = folder / "part.npy"
        np.save(part, tops(model, dataset, users))
        part.rename(tops_file)
        print(f"RecTools, seed {seed}: {n_epochs} epochs", file=sys.stderr)
    said = {"epochs": n_epochs, "ours": judged(np.load(folder / "ours.npy"), targets)}
    (folder / "judged.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
