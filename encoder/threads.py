"""How torch's threads wait for each other.

By default a thread that has finished its share spins. On a machine whose cores are all busy that
takes the core from the thread it waits for: training beside a running stack took six times as long
(measured). Asleep, it costs some percent on an idle machine.
"""

import os

N_THREADS = 2
"""Of training and evaluation; small matrices gain nothing from more."""


def let_idle_threads_sleep() -> None:
    """Set OpenMP's wait policy, unless the environment does. Call it before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
