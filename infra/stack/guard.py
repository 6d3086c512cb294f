"""A watcher inside the stack: when its launcher or supervisord dies, everything stops.

supervisord runs it as `python -m infra.stack.guard`. It looks twice a second whether

* the owner (the foreground `freshet up`, or a test session; state.py) still lives. If not,
  supervisord is told to stop, as by Ctrl-C;
* supervisord, its parent, still lives. If not, nobody watches the services any more, and whatever
  carries the marker is stopped.

So even SIGKILL leaves nothing behind for longer than a stop takes. Should the guard be killed at
the same moment, `freshet down` and the next `freshet up` find the rest.
"""

import os
import signal
import time

import psutil

from infra.stack.leftovers import MARKER, is_marked, stop_leftovers
from infra.stack.state import StateFolder

_LOOK_S = 0.5


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def main() -> None:
    """Watch until there is nothing left to watch."""
    state, state_id, supervisor = StateFolder.at(), os.environ[MARKER], os.getppid()
    owner = state.owner()
    while _is_supervised(state_id) and (owner is None or is_alive(owner)):
        time.sleep(_LOOK_S)
        owner = state.owner()
    state.stack_file.unlink(missing_ok=True)
    state.own(None)
    if _is_supervised(state_id):
        print(f"the launcher ({owner}) is gone: stopping everything", flush=True)
        os.kill(supervisor, signal.SIGTERM)
        signal.pause()  # supervisord stops this process last
    else:
        # Not a word: supervisord read our output, and writing now is an error.
        stop_leftovers(state_id)


def _is_supervised(state_id: str) -> bool:
    """Whether the parent still is supervisord: an orphan's is some other process, perhaps from
    before this one had even begun to look."""
    try:
        return is_marked(psutil.Process(os.getppid()), state_id)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
