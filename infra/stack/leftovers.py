"""Find and stop what a crash has left running.

Everything that the stack starts inherits FRESHET_STATE_ID, one value for each state folder; the
system keeps a process's first environment readable to its owner for as long as it lives, whoever
its parent is by then. So the children of Milvus or of a service are found too, and nothing of
another state folder.
"""

import os
import time

import psutil

MARKER = "FRESHET_STATE_ID"
_TERM_S = 5.0
_ROUNDS = 20


def find_leftovers(state_id: str) -> list[psutil.Process]:
    """Return the living processes that carry the marker, without this one and its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and is_marked(process, state_id)
    ]


def is_marked(process: psutil.Process, state_id: str) -> bool:
    """Whether a process is alive and of this state folder's stack."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(process.environ().get(MARKER) == state_id)
    except (psutil.Error, OSError):
        return False  # gone meanwhile, or another user's


def stop_leftovers(state_id: str, *, term_s: float = _TERM_S) -> list[str]:
    """Stop what find_leftovers finds: SIGTERM, after `term_s` SIGKILL; return names and pids.

    Looks again until nothing is found, as a supervisor among them may have started more.
    """
    stopped: dict[int, str] = {}
    deadline = time.monotonic() + term_s
    for _ in range(_ROUNDS):
        found = find_leftovers(state_id)
        if not found:
            break
        patient = time.monotonic() < deadline
        for process in found:
            stopped[process.pid] = _describe(process)
            _signal(process, patient)
        psutil.wait_procs(found, timeout=max(deadline - time.monotonic(), 1.0))
    return list(stopped.values())


def _signal(process: psutil.Process, patient: bool) -> None:
    try:
        if patient:
            process.terminate()
        else:
            process.kill()
        process.resume()  # one that was stopped by SIGSTOP hears nothing else
    except psutil.Error:
        return


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.name()} ({process.pid})"
    except psutil.Error:
        return str(process.pid)
