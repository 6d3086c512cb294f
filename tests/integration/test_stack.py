"""`freshet up | down | status` as a person runs it, with a real Kafka and a real Milvus."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer

from infra.endpoints import Endpoints
from infra.stack.leftovers import find_leftovers
from infra.stack.state import StateFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FRESHET = Path(sys.executable).with_name("freshet")


class Person:
    """Types commands for one state folder, and wants nothing of theirs running at the end."""

    def __init__(self, state: StateFolder) -> None:
        self.state = state
        kept = {key: value for key, value in os.environ.items() if not key.startswith("FRESHET_")}
        self.environment = kept | {"FRESHET_STATE": str(state.path)}

    def runs(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(FRESHET), *words]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=300
        )

    def starts(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self.state.path.parent / "terminal").open("wb")
        with log:
            return subprocess.Popen(
                [str(FRESHET), *words], env=self.environment, stdout=log, stderr=log
            )

    def sees(self) -> str:
        return (self.state.path.parent / "terminal").read_text()

    def parts(self) -> dict[str, dict]:
        rows = json.loads(self.runs("status", "--json").stdout)["parts"]
        return {row["name"]: row for row in rows}

    def waits_until(self, condition, what: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: in vain. The terminal:\n{self.sees()}"
            time.sleep(0.1)

    def has_leftovers(self) -> bool:
        return bool(find_leftovers(self.state.state_id))


@pytest.fixture
def person(tmp_path):
    made = Person(StateFolder.at(tmp_path / ".freshet"))
    yield made
    made.runs("down")
    assert not made.has_leftovers()


def test_kafka_and_milvus_come_up_are_seen_and_leave_nothing(person):
    up = person.runs("up", "--only", "kafka,milvus", "--detach")

    assert up.returncode == 0, up.stdout + up.stderr
    assert "milvus listens on all interfaces" in up.stdout
    parts = person.parts()
    assert {name: row["is_healthy"] for name, row in parts.items()} == {
        "kafka": True,
        "milvus": True,
        "supervisor": True,
    }
    assert parts["kafka"]["memory_bytes"] > 100 * 2**20
    endpoints = Endpoints.load(person.state.path)
    consumer = KafkaConsumer(bootstrap_servers=endpoints.kafka_bootstrap)
    assert consumer.topics() == set()
    consumer.close()
    again = person.runs("up", "--only", "kafka", "--detach")
    assert (again.returncode, "already up" in again.stdout) == (0, True)

    assert person.runs("down").returncode == 0
    assert not person.has_leftovers()
    assert person.runs("status").returncode == 1


def test_sigkill_of_the_launcher_and_its_guard_then_down_leaves_nothing(person):
    launcher = person.starts("up", "--only", "kafka,milvus")
    person.waits_until(lambda: "everything is up" in person.sees(), "start")
    guard = next(p for p in find_leftovers(person.state.state_id) if "guard" in str(p.cmdline()))
    guard.suspend()  # else nothing would be left for `down`

    launcher.kill()
    launcher.wait()
    down = person.runs("down")

    assert (down.returncode, "stopped" in down.stdout) == (0, True)
    assert not person.has_leftovers()


def test_ctrl_c_in_the_foreground_stops_everything(person):
    launcher = person.starts("up", "--only", "kafka")
    person.waits_until(lambda: "everything is up" in person.sees(), "start")

    launcher.send_signal(signal.SIGINT)

    assert launcher.wait(60) == 0, person.sees()
    assert not person.has_leftovers()
    assert not person.state.stack_file.exists()


def test_ctrl_c_while_it_starts_stops_everything(person):
    launcher = person.starts("up", "--only", "milvus")
    person.waits_until(person.has_leftovers, "start")

    launcher.send_signal(signal.SIGINT)

    assert launcher.wait(60) == 130, person.sees()
    assert not person.has_leftovers()


def test_a_given_kafka_is_used_and_left_alone(person, kafka_bootstrap):
    person.environment["FRESHET_KAFKA_BOOTSTRAP"] = kafka_bootstrap

    up = person.runs("up", "--only", "kafka", "--detach")

    assert up.returncode == 0, up.stdout + up.stderr
    kafka = person.parts()["kafka"]
    assert (kafka["state"], kafka["address"]) == ("external", kafka_bootstrap)
    person.runs("down")
    consumer = KafkaConsumer(bootstrap_servers=kafka_bootstrap)
    consumer.topics()
    consumer.close()


def test_purge_empties_the_state_folder_and_refuses_another(person, kafka_bootstrap, tmp_path):
    person.environment["FRESHET_KAFKA_BOOTSTRAP"] = kafka_bootstrap
    person.runs("up", "--only", "kafka", "--detach")
    purged = person.runs("down", "--purge")

    assert purged.returncode == 0, purged.stderr
    assert not person.state.path.exists()

    (tmp_path / ".freshet").mkdir()
    (tmp_path / ".freshet" / "thesis.tex").write_text("ten years")
    refused = person.runs("down", "--purge")
    assert (refused.returncode, "nothing was deleted" in refused.stderr) == (1, True)
    assert (tmp_path / ".freshet" / "thesis.tex").exists()
    (tmp_path / ".freshet" / "thesis.tex").unlink()


def test_without_a_model_one_sentence_says_how_to_train(person):
    up = person.runs("up")

    assert up.returncode == 1
    assert "run: freshet train ml-100k" in up.stderr
    assert "Traceback" not in up.stderr
