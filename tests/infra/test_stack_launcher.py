"""The launcher, supervisord and the guard, for real; the services are stand-ins."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.endpoints import Endpoints
from infra.stack.guard import is_alive
from infra.stack.health import status_rows
from infra.stack.launcher import AlreadyUp, Silent, Stack
from infra.stack.leftovers import find_leftovers
from infra.stack.plan import External, Plan
from infra.stack.probes import Probe
from infra.stack.services import Service
from infra.stack.state import StateFolder
from protos.errors import NotReady

STAND_IN = Path(__file__).with_name("stand_in_service.py")

pytestmark = pytest.mark.slow  # a second or two each


class Table:
    """Makes a plan of stand-ins: each name with its manner and what it needs."""

    def __init__(self, **rows: tuple[str, tuple[str, ...]]) -> None:
        self._rows = rows

    def __call__(self, wanted, state, ports, narrator) -> Plan:
        services = []
        for name, (manner, needs) in self._rows.items():
            address = f"127.0.0.1:{ports.choose(name)}"
            command = (sys.executable, str(STAND_IN), address.rpartition(":")[2], manner)
            probe = Probe("http", f"http://{address}/")
            services.append(Service(name, command, address, probe, needs=needs, start_s=20))
        return Plan(tuple(services), (), Endpoints(web="127.0.0.1:1"))


ONE = Table(web=("serve", ()))


@pytest.fixture
def stack(tmp_path, monkeypatch):
    for name in Endpoints().environment():
        monkeypatch.delenv(name, raising=False)
    made = Stack(StateFolder.at(tmp_path / "state"), Silent())
    yield made
    made.down()
    assert find_leftovers(made.state.state_id) == []


def up(stack, table=ONE):
    return stack.up(frozenset({"web"}), plan_maker=table)


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


LAUNCH = f"""
import sys, time
sys.path.insert(0, {str(STAND_IN.parent)!r})
from test_stack_launcher import ONE, Path, Silent, Stack, StateFolder
Stack(StateFolder.at(Path(sys.argv[1])), Silent()).up(frozenset(), plan_maker=ONE)
print("up", flush=True)
time.sleep(60)
"""


def start_in_another_process(stack) -> subprocess.Popen:
    """Return a launcher that stays in the foreground, as `freshet up` does."""
    command = [sys.executable, "-c", LAUNCH, str(stack.state.path)]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE)
    with launcher.stdout as out:
        assert out.readline() == b"up\n"
    return launcher


def test_up_returns_when_everything_is_healthy_and_down_leaves_nothing(stack):
    plan = up(stack, Table(web=("fork", ())))

    assert plan.services[0].probe.is_healthy()
    assert len(find_leftovers(stack.state.state_id)) == 4  # supervisord, guard, web, its child
    stack.down()
    assert find_leftovers(stack.state.state_id) == []
    assert not stack.state.stack_file.exists()


def test_a_service_starts_after_what_it_needs(stack):
    up(stack, Table(late=("serve", ("early",)), early=("serve", ())))

    known = stack.supervisor.services()
    early, late = (psutil.Process(known[name].pid).create_time() for name in ("early", "late"))
    assert early < late


def test_services_hear_where_the_others_are_and_the_marker(stack):
    up(stack)

    environment = psutil.Process(stack.supervisor.services()["web"].pid).environ()
    assert environment["FRESHET_WEB"] == "127.0.0.1:1"
    assert environment["FRESHET_STATE"] == str(stack.state.path)
    assert environment["FRESHET_STATE_ID"] == stack.state.state_id


def test_addresses_of_a_running_stack_are_on_record(stack):
    up(stack)

    assert Endpoints.load(stack.state.path).web == "127.0.0.1:1"


def test_a_second_up_finds_the_first(stack):
    up(stack)
    pid = stack.supervisor.services()["web"].pid

    assert up(stack) == AlreadyUp(frozenset({"web"}))
    assert stack.supervisor.services()["web"].pid == pid


def test_a_service_that_dies_is_started_again(stack):
    up(stack)
    before = stack.supervisor.services()["web"].pid

    os.kill(before, signal.SIGKILL)

    wait_until(lambda: stack.supervisor.services()["web"].pid not in (0, before))


def test_a_service_that_keeps_dying_ends_the_start_with_its_last_words(stack):
    with pytest.raises(NotReady, match=r"bad stops by itself, again and again(.|\n)*out of cheese"):
        up(stack, Table(good=("serve", ()), bad=("die", ())))

    assert find_leftovers(stack.state.state_id) == []


def test_two_folders_beside_each_other_do_not_touch_each_other(stack, tmp_path):
    other = Stack(StateFolder.at(tmp_path / "other"), Silent())
    up(stack)
    up(other)

    other.down()

    assert status_rows(stack)[0].is_healthy
    assert find_leftovers(other.state.state_id) == []


def test_down_twice_and_down_of_nothing_are_no_errors(stack):
    assert stack.down() == []
    up(stack)
    stack.down()
    assert stack.down() == []


def test_status_tells_process_address_and_memory(stack):
    plan = up(stack)

    web, supervisor = status_rows(stack)

    assert (web.name, web.state, web.is_healthy) == ("web", "running", True)
    assert web.address == plan.services[0].address
    assert web.pid == stack.supervisor.services()["web"].pid
    assert abs(web.since_ms / 1000 - time.time()) < 60
    assert web.memory_bytes > 2**20
    assert supervisor.pid == stack.supervisor.pid()
    assert json.dumps(web.as_json())


def test_status_of_nothing_is_empty(stack):
    assert status_rows(stack) == []


def test_status_sees_a_service_that_hangs(stack):
    up(stack)
    web = stack.supervisor.services()["web"].pid
    os.kill(web, signal.SIGSTOP)

    row = status_rows(stack)[0]

    os.kill(web, signal.SIGCONT)
    assert (row.pid, row.is_healthy) == (web, False)


def test_sigkill_of_the_launcher_ends_the_stack_by_itself(stack):
    launcher = start_in_another_process(stack)

    launcher.kill()
    launcher.wait()

    wait_until(lambda: not find_leftovers(stack.state.state_id))
    assert not stack.state.stack_file.exists()


def test_sigkill_of_supervisord_ends_the_stack_by_itself(stack):
    up(stack, Table(web=("fork", ())))

    os.kill(stack.supervisor.pid(), signal.SIGKILL)

    wait_until(lambda: not find_leftovers(stack.state.state_id))


def test_down_finds_what_is_left_when_supervisord_and_guard_are_killed(stack):
    up(stack, Table(web=("fork", ())))
    guard = stack.supervisor.services()["guard"].pid
    os.kill(stack.supervisor.pid(), signal.SIGKILL)
    os.kill(guard, signal.SIGKILL)  # within the half second between two looks

    stopped = stack.down()

    assert len(stopped) == 2  # web and its child
    assert find_leftovers(stack.state.state_id) == []


def test_the_next_up_stops_what_a_crash_has_left(stack):
    up(stack)
    web, guard = (stack.supervisor.services()[name].pid for name in ("web", "guard"))
    os.kill(stack.supervisor.pid(), signal.SIGKILL)
    os.kill(guard, signal.SIGKILL)

    plan = up(stack)

    assert plan.services[0].probe.is_healthy()
    assert not is_alive(web)
    assert not is_alive(guard)


def test_a_stopped_supervisord_does_not_hold_down_forever(stack):
    up(stack)
    os.kill(stack.supervisor.pid(), signal.SIGSTOP)

    stack.down()

    assert find_leftovers(stack.state.state_id) == []


def test_a_stack_handed_over_outlives_its_launcher(stack):
    launcher = start_in_another_process(stack)
    stack.hand_over(None)

    launcher.kill()
    launcher.wait()

    time.sleep(1.5)  # the guard looks twice a second
    assert status_rows(stack)[0].is_healthy


def test_an_external_part_that_does_not_answer_is_named_with_its_variable(stack, monkeypatch):
    monkeypatch.setattr("infra.stack.launcher._EXTERNAL_S", 0.2)
    external = External("kafka", "127.0.0.1:1", Probe("kafka", "127.0.0.1:1"))

    with pytest.raises(Exception, match="unset FRESHET_KAFKA_BOOTSTRAP"):
        up(stack, lambda *_: Plan((), (external,), Endpoints()))
