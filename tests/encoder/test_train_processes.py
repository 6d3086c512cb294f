"""`freshet train` as a process: killed and continued, and as two processes that share the work."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from encoder.bundle import load_bundle

pytestmark = pytest.mark.slow

N_ITEMS = 30


@pytest.fixture
def run_file(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    chosen = random.Random(0)
    with (data / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "action", "event_time_ms"])
        for user in range(200):
            start = chosen.randrange(N_ITEMS)
            for step in range(20):
                rows.writerow([f"u{user}", f"i{(start + step) % N_ITEMS}", "click", 1_000 + step])
    with (data / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title"])
        rows.writerows([f"i{n}", f"thing number {n}"] for n in range(N_ITEMS))
    path = tmp_path / "run.toml"
    path.write_text(
        f'data = "{data}"\n'
        "[model]\nn_centres = 8\nlight_width = 16\ndim = 16\n"
        "[recipe]\nwarm_epochs = 2\nepochs = 4\ncoder_steps = 5\nrows_a_batch = 8\n"
        "validation_users = 20\n"
    )
    return path


def trained(run_file, out, *, before=(), wait=True):
    freshet = str(Path(sys.executable).with_name("freshet"))
    command = [*before, freshet, "train", str(run_file), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if wait:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
    return process


def test_a_killed_run_goes_on_and_makes_the_same_model(run_file, tmp_path):
    trained(run_file, tmp_path / "whole")
    process = trained(run_file, tmp_path / "killed", wait=False)
    checkpoint = tmp_path / "killed.run" / "checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed").exists(), "it was killed too late"

    trained(run_file, tmp_path / "killed")

    versions = {load_bundle(tmp_path / name).model_version for name in ("whole", "killed")}
    assert len(versions) == 1
    left = {path.name for path in (tmp_path / "killed.run").iterdir()}
    assert left == {"log.csv", "tensorboard"}


def test_two_processes_share_the_work_and_make_one_bundle(run_file, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    one, two = tmp_path / "one", tmp_path / "two"

    trained(run_file, one)
    trained(run_file, two, before=torchrun)

    figures = [json.loads((out / "metrics.json").read_text())["figures"] for out in (one, two)]
    assert figures[0]["popularity"] == figures[1]["popularity"]
    assert figures[1]["refined"]["hr@10"] > 0.8
    steps = [max(int(row["step"]) for row in rows(f"{out}.run/log.csv")) for out in (one, two)]
    assert steps[1] < 0.7 * steps[0], "each takes half of the batches"


def rows(path):
    with open(os.fspath(path), newline="") as file:
        return list(csv.DictReader(file))
