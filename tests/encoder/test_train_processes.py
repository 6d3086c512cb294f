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
import torch
from transformers import AutoModel

from encoder.bundle import load_bundle
from tests.encoder.test_base_llm import save_checkpoint

pytestmark = pytest.mark.slow

N_ITEMS = 30


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    data = tmp_path_factory.mktemp("run") / "data"
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
    path = data.with_name("run.toml")
    path.write_text(
        f'data = "{data}"\n'
        "[model]\nn_centres = 8\nlight_width = 16\ndim = 16\n"
        "[recipe]\nwarm_epochs = 2\nepochs = 4\ncoder_steps = 5\nrows_a_batch = 8\n"
        "validation_users = 20\n"
    )
    return path


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def started(run_file, out, before=()):
    freshet = str(Path(sys.executable).with_name("freshet"))
    command = [*before, freshet, "train", str(run_file), "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def trained(run_file, out, before=()):
    """Return what the command says."""
    process = started(run_file, out, before)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def kill_at_checkpoint(run_file, out, with_signal, before=()):
    process = started(run_file, out, before)
    checkpoint = Path(f"{out}.run") / "checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(with_signal)
    process.communicate()
    assert not out.exists(), "it was killed too late"


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def whole(run_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "bundle"
    trained(run_file, out)
    return out


@pytest.fixture(scope="module")
def whole_of_two(run_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "bundle"
    trained(run_file, out, TORCHRUN)
    return out


def test_a_killed_run_goes_on_and_makes_the_same_model(run_file, whole, tmp_path):
    kill_at_checkpoint(run_file, tmp_path / "killed", signal.SIGKILL)

    trained(run_file, tmp_path / "killed")

    versions = {load_bundle(out).model_version for out in (whole, tmp_path / "killed")}
    assert len(versions) == 1
    left = {path.name for path in (tmp_path / "killed.run").iterdir()}
    assert left == {"log.csv", "tensorboard"}


def test_two_processes_share_the_work_and_make_one_bundle(whole, whole_of_two):
    figures = [metrics_of(out)["figures"] for out in (whole, whole_of_two)]
    assert figures[0]["popularity"] == figures[1]["popularity"]
    assert figures[1]["refined"]["hr@10"] > 0.8
    steps = [
        max(int(row["step"]) for row in rows(f"{out}.run/log.csv")) for out in (whole, whole_of_two)
    ]
    assert steps[1] < 0.7 * steps[0], "each takes half of the batches"


def test_two_processes_that_were_killed_go_on_and_make_the_same_model(
    run_file, whole_of_two, tmp_path
):
    out = tmp_path / "killed"
    kill_at_checkpoint(run_file, out, signal.SIGTERM, TORCHRUN)  # which torchrun passes on

    trained(run_file, out, TORCHRUN)

    assert load_bundle(out).model_version == load_bundle(whole_of_two).model_version
    for shares in ("win_shares", "coarse_win_shares"):
        assert metrics_of(out)[shares] == metrics_of(whole_of_two)[shares]


def test_adapters_of_an_llm_are_trained_by_a_run_file(run_file, tmp_path):
    save_checkpoint(tmp_path / "llm")
    path = tmp_path / "lora.toml"
    said = run_file.read_text().replace("[model]", 'llm = "llm"\n[model]')
    path.write_text(said.replace("epochs = 4", "epochs = 1") + "lora_rank = 2\n")

    said = trained(path, tmp_path / "bundle")

    base = AutoModel.from_pretrained(tmp_path / "llm").state_dict()
    tuned = load_bundle(tmp_path / "bundle").model.tower.llm.llm.state_dict()
    for layer in range(3):
        name = f"layers.{layer}.mlp.up_proj.weight"
        assert torch.linalg.matrix_rank(tuned[name] - base[name], rtol=1e-3) == 2
        name = f"layers.{layer}.input_layernorm.weight"
        torch.testing.assert_close(tuned[name], base[name], rtol=0, atol=0)
    metrics = metrics_of(tmp_path / "bundle")
    assert (metrics["run"]["llm"], metrics["run"]["recipe"]["lora_rank"]) == ("llm", 2)
    for name, key in (("refined", "win_shares"), ("coarse", "coarse_win_shares")):
        won = " ".join(f"{share:.0%}" for share in metrics[key])
        assert f"targets won by {name} queries: {won}" in said


def rows(path):
    with open(os.fspath(path), newline="") as file:
        return list(csv.DictReader(file))
