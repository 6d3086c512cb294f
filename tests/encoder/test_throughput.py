from collections import defaultdict
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from encoder.run_folder import RunFolder
from encoder.throughput import MatmulCounter, Throughput, matmul_flops
from encoder.train import Watch, train
from tests.encoder.test_train import RECIPE, TEXTS, Killed, walkers
from tests.encoder.tiny import CONFIG


def test_the_share_of_the_peak_is_that_of_whole_rounds():
    found = Throughput(peak=400.0, round_steps=2)

    found.add(10, 9.0, flops=50)  # encodes
    found.add(10, 9.0, flops=150)  # and takes gradients back
    for _ in range(2):
        found.add(10, 0.5, flops=None)

    assert found.events_per_s == 20 / 1.0
    assert found.share_of_peak == (200 / 20) * 20 / 400
    assert str(found) == "20 events/s, 50% of the peak of a matrix product here"


def test_a_run_that_goes_on_does_not_time_the_round_that_fills_caches():
    found = Throughput(peak=400.0, round_steps=2)

    for seconds in (9.0, 9.0, 0.5, 0.5):
        found.add(10, seconds, flops=None)

    assert found.events_per_s == 20 / 1.0
    assert found.to_dict() == {"events_per_s": 20, "share_of_matmul_peak": None}


def test_the_speed_of_a_short_run_is_unknown():
    found = Throughput(peak=400.0, round_steps=2)
    found.add(10, 1.0, flops=50)

    assert str(found) == "speed unknown, there were too few steps"
    assert found.to_dict() == {"events_per_s": None, "share_of_matmul_peak": None}


TWOS = replace(RECIPE, epochs=1, tower_every=2, validation_users=0)
"""Three epochs of five steps, in rounds of two."""


def gradients():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(32, 32, generator=generator, requires_grad=True)
    states = torch.randn(1, 2, 8, 32, generator=generator)
    states = F.silu(states @ weight)
    F.scaled_dot_product_attention(states, states, states).square().sum().backward()
    return weight.grad


def test_counting_counts_what_torch_does_and_changes_no_bit():
    plain = gradients()
    with FlopCounterMode(display=False) as torchs:
        gradients()

    with MatmulCounter() as ours:
        counted = gradients()

    assert ours.get_total_flops() == torchs.get_total_flops() > 0
    torch.testing.assert_close(counted, plain, rtol=0, atol=0)


def test_a_peak_is_positive():
    assert matmul_flops(torch.device("cpu"), torch.float32) > 0


class Recorder:
    """What `train` says of each step of a stage."""

    def __init__(self, peak, round_steps):
        self.flops = []

    def add(self, n_events, seconds, flops):
        self.flops.append(flops)


@pytest.fixture
def recorders(monkeypatch):
    """Record what is counted; a checkpoint stands after each round."""
    monkeypatch.setattr("encoder.train.Throughput", Recorder)
    monkeypatch.setattr("encoder.train.matmul_flops", lambda *said: 1.0)
    monkeypatch.setattr("encoder.train.CHECKPOINT_S", 0.0)


def run(folder, recipe=TWOS, kill_after=None):
    """Return, by epoch and step, what was counted."""
    places, counted = [], defaultdict(list)

    def on_step(step):
        places.append((step.stage, step.epoch, step.n_done))
        if len(places) == kill_after:
            raise Killed

    trained = train(TEXTS, walkers(20), CONFIG, recipe, folder, watch=Watch(on_step=on_step))
    for stage, throughput in trained.throughputs.items():
        of_stage = [place for place in places if place[0] == stage]
        for (_, epoch, n_done), flops in zip(of_stage, throughput.flops, strict=True):
            counted[epoch].append((n_done, flops))
    return counted


def claimed(path):
    folder = RunFolder(path)
    folder.claim({})
    return folder


def test_the_first_round_of_each_epoch_is_counted_whole_also_when_a_run_goes_on(
    recorders, tmp_path
):
    whole = run(claimed(tmp_path / "whole"))
    killed = claimed(tmp_path / "killed")
    with pytest.raises(Killed):
        run(killed, kill_after=8)  # in the second epoch, after its first round
    resumed = run(killed)

    for steps in whole.values():
        counts = [flops for _, flops in steps]
        assert len(counts) == 5
        assert None not in counts[:2]
        assert set(counts[2:]) == {None}
    assert [len(steps) for steps in resumed.values()] == [3, 5]
    for epoch, steps in resumed.items():
        assert steps == whole[epoch][-len(steps) :]


def test_a_round_has_the_way_back_through_the_tower(recorders, tmp_path):
    fours = run(claimed(tmp_path / "whole"), replace(TWOS, tower_every=4))
    (_, first), (_, second), _, (_, last) = fours[0][:4]

    assert first > 1.5 * second, "items are encoded"
    assert last > 1.5 * second, "and gradients go back"
