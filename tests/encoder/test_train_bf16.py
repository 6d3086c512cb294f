"""Training whose matrices are multiplied in bf16; everything else is as wide as ever."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from encoder.config import HSTU, TRANSFORMER
from encoder.dmil import assign, cluster_targets
from encoder.run_folder import RunFolder
from encoder.train import train
from tests.encoder.test_train import RECIPE, TEXTS, walkers
from tests.encoder.tiny import CONFIG


@pytest.mark.parametrize("block", [TRANSFORMER, HSTU])
def test_a_run_in_bf16_ends_with_finite_weights_as_wide_as_before(tmp_path, block):
    folder = RunFolder(tmp_path / "bundle")
    folder.claim({})
    config = replace(CONFIG, light_block=block)

    trained = train(TEXTS, walkers(20), config, replace(RECIPE.quick(), bf16=True), folder)

    for name, weight in trained.bundle.model.state_dict().items():
        assert weight.dtype == torch.float32, name
        assert weight.isfinite().all(), name
    for shares in trained.win_shares.values():
        assert sum(shares) == pytest.approx(1, abs=0.001)


def test_near_targets_are_told_apart_inside_bf16_as_well():
    generator = torch.Generator().manual_seed(0)
    table = normalize(1 + 0.1 * torch.randn(30, 16, generator=generator), dim=-1)
    rows = torch.randint(30, (64, 8), generator=generator)
    interests = table[torch.randint(30, (64, 4), generator=generator)]

    def found():
        groups = cluster_targets(table[rows], rows, n_groups=4)
        return groups, assign(interests, table[rows], groups).queries

    outside = found()
    with torch.autocast("cpu", torch.bfloat16):
        inside = found()

    for ours, theirs in zip(inside, outside, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
