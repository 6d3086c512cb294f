import pytest

from encoder.deployments import next_sequence
from protos.errors import NotReady


def test_every_deployment_gets_a_greater_number_a_rollback_too(tmp_path):
    record = tmp_path / "encoder" / "deployment.json"

    numbers = [next_sequence(record, version) for version in ("a", "a", "b", "a", "a")]

    assert numbers == [1, 1, 2, 3, 3]


def test_a_damaged_record_is_never_started_over(tmp_path):
    record = tmp_path / "deployment.json"
    record.write_text("{")

    with pytest.raises(NotReady, match="MODEL_SEQUENCE"):
        next_sequence(record, "a")
