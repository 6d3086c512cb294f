import asyncio
import os
import signal

import pytest
from pydantic_settings import BaseSettings

from infra.process import catch_signals, process
from infra.settings import settings_config
from protos.errors import NotReady


class Mill(BaseSettings):
    model_config = settings_config("FRESHET_MILL_")

    wheel_size: int = 3


@pytest.fixture(autouse=True)
def _keep_logging_as_it_is(monkeypatch):
    monkeypatch.setattr("infra.process.configure_logs", lambda *args, **options: None)


def test_a_process_gets_its_settings_from_the_environment(monkeypatch):
    monkeypatch.setenv("FRESHET_MILL_WHEEL_SIZE", "5")
    monkeypatch.setenv("FRESHET_N_PARTITIONS", "7")

    with process("mill", Mill) as (shared, own):
        assert (shared.n_partitions, own.wheel_size) == (7, 5)


@pytest.mark.parametrize(
    ("name", "value"), [("FRESHET_MILL_WHEELS", "5"), ("FRESHET_MILL_WHEEL_SIZE", "big")]
)
def test_settings_that_cannot_be_read_end_the_process(monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as stopped, process("mill", Mill):
        raise AssertionError("never gets here")

    assert stopped.value.code == 1


def test_an_error_of_ours_ends_the_process_without_a_traceback():
    with pytest.raises(SystemExit) as stopped, process("mill", Mill):
        raise NotReady("no corn; buy some")

    assert stopped.value.code == 1


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), process("mill", Mill):
        raise ZeroDivisionError


async def test_a_signal_is_heard_from_the_moment_it_is_caught():
    stop = catch_signals()

    os.kill(os.getpid(), signal.SIGTERM)

    assert await asyncio.wait_for(stop, 5) == "SIGTERM"
