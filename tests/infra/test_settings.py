import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from infra.settings import SharedSettings, refuse_unknown_environment, settings_config
from protos.errors import InvalidInput


class Mill(BaseSettings):
    model_config = settings_config("FRESHET_MILL_")

    wheel_size: int = 3


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FRESHET_MILL_WHEEL_SIZE", "7")

    assert Mill().wheel_size == 7


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Mill().wheel_size = 4


def test_a_misspelt_variable_is_refused_with_the_likely_name(monkeypatch):
    monkeypatch.setenv("FRESHET_MILL_WHEEL_SIZES", "7")

    with pytest.raises(InvalidInput, match=r"did you mean FRESHET_MILL_WHEEL_SIZE\?"):
        refuse_unknown_environment(Mill)


def test_variables_of_other_services_are_none_of_its_business(monkeypatch):
    monkeypatch.setenv("FRESHET_LOOM_WIDTH", "7")

    refuse_unknown_environment(Mill)


@pytest.mark.parametrize("value", ["0", "many"])
def test_a_value_out_of_range_is_refused(monkeypatch, value):
    monkeypatch.setenv("FRESHET_N_PARTITIONS", value)

    with pytest.raises(ValidationError, match="n_partitions"):
        SharedSettings()
