"""Stand-in process trees: a parent with a child, as Milvus' wrapper has one, in sessions of their
own."""

import os
import signal
import subprocess
import sys
import time
import uuid

import psutil
import pytest

from infra.stack.leftovers import MARKER, find_leftovers, stop_leftovers

SLEEP = "import time; time.sleep(60)"
PARENT = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
print("ready", flush=True)
{SLEEP}
"""
DEAF = f"""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
{SLEEP}
"""


@pytest.fixture
def state_id():
    return uuid.uuid4().hex


@pytest.fixture
def start(state_id):
    started = []

    def run(code, marker=None):
        environment = os.environ | {MARKER: marker or state_id}
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield run
    stop_leftovers(state_id, term_s=0)
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_tree_is_found_by_its_marker_alone(start, state_id):
    parent = start(PARENT)

    found = {process.pid for process in find_leftovers(state_id)}

    assert found == {parent.pid, psutil.Process(parent.pid).children()[0].pid}


def test_a_child_whose_parent_was_killed_is_stopped(start, state_id):
    parent = start(PARENT)
    (child,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()

    stopped = stop_leftovers(state_id)

    assert len(stopped) == 1
    assert str(child.pid) in stopped[0]
    assert find_leftovers(state_id) == []


def test_another_state_folder_is_not_touched(start, state_id):
    other = start(PARENT, marker=uuid.uuid4().hex)

    stop_leftovers(state_id)

    assert other.poll() is None
    stop_leftovers(psutil.Process(other.pid).environ()[MARKER], term_s=0)


def test_one_that_ignores_sigterm_is_killed(start, state_id):
    deaf = start(DEAF)

    stop_leftovers(state_id, term_s=0.2)

    assert deaf.poll() is not None


def test_one_that_is_suspended_is_stopped(start, state_id):
    suspended = start(PARENT)
    suspended.send_signal(signal.SIGSTOP)
    time.sleep(0.1)

    stop_leftovers(state_id)

    assert suspended.poll() is not None
    assert find_leftovers(state_id) == []


def test_nothing_to_stop_is_no_error(state_id):
    assert stop_leftovers(state_id) == []


def test_this_process_and_its_ancestors_are_spared(state_id):
    code = (
        "from infra.stack.leftovers import stop_leftovers;"
        f"print(stop_leftovers({state_id!r}, term_s=0))"
    )
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    environment = os.environ | {MARKER: state_id}

    done = subprocess.run(
        [sys.executable, "-c", nested], env=environment, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
