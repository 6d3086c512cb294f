import pytest

from encoder.peers import local_device


@pytest.mark.parametrize(
    ("environment", "n_gpus", "device"),
    [
        ({}, 0, "cpu"),
        ({}, 2, "cuda:0"),
        ({"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 0, "cpu"),
        ({"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 1, "cpu"),
        ({"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 2, "cuda:1"),
        ({"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 8, "cuda:1"),
    ],
)
def test_a_process_has_a_gpu_of_its_own_or_none(environment, n_gpus, device):
    assert str(local_device(environment, n_gpus)) == device
