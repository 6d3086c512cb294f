"""What a run says of itself, read back from the files."""

import csv

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from encoder.run_folder import RunFolder
from encoder.train import Watch, train
from encoder.wins import COARSE, REFINED
from tests.encoder.test_train import RECIPE, TEXTS, walkers
from tests.encoder.tiny import CONFIG


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The folder of a run, and its last steps of an epoch."""
    folder = RunFolder(tmp_path_factory.mktemp("told") / "bundle")
    folder.claim({})
    steps = []
    train(TEXTS, walkers(20), CONFIG, RECIPE, folder, watch=Watch(on_step=steps.append))
    return folder, [step for step in steps if step.ends_epoch]


def of_csv(folder):
    """(name, step) -> value"""
    with folder.log.open(newline="") as file:
        return {(row["name"], int(row["step"])): row["value"] for row in csv.DictReader(file)}


def of_tensorboard(folder):
    board = EventAccumulator(str(folder.tensorboard))
    board.Reload()
    names = board.Tags()["scalars"]
    return {(name, one.step): one.value for name in names for one in board.Scalars(name)}


def test_tensorboard_has_the_same_numbers_as_the_csv_file(told):
    folder, _ = told

    rows, scalars = of_csv(folder), of_tensorboard(folder)

    assert rows.keys() == scalars.keys()
    for place, value in rows.items():
        assert scalars[place] == pytest.approx(float(value), rel=1e-4), place
    assert {"loss/next", "loss/refined", "events_per_s", "validation/ndcg@10"} <= {
        name for name, _ in rows
    }


def test_each_epoch_says_how_much_each_query_won(told):
    folder, ends = told

    rows = of_csv(folder)

    assert [bool(step.win_shares) for step in ends] == [False, False, True, True]
    for step in ends[2:]:
        for name in (COARSE, REFINED):
            shares = [float(rows[f"win_share/{name}/{n}", step.n_done]) for n in range(3)]
            assert shares == pytest.approx(step.win_shares[name], abs=1e-4)
            assert sum(shares) == pytest.approx(1, abs=0.001)
