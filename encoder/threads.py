"""How torch's threads wait for each other.

By default a thread that has finished its share spins. On a machine whose cores are all busy that
takes the core from the thread it waits for: training beside a running stack took six times as long
(measured). Asleep at once, two threads gain nothing over one. So they spin for some microseconds,
then sleep (docs/log.md).
"""

import os

MAX_THREADS = 2
"""Of training and evaluation; small matrices gain nothing from more."""

SPINS = 2_000


def let_idle_threads_sleep() -> None:
    """Bound how long OpenMP's threads spin, unless the environment says how they wait.

    Call it before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def use_threads(n_processes: int = 1) -> None:
    """Give torch the threads of training and evaluation, fewer where OMP_NUM_THREADS says so.

    Args:
        n_processes: that share them.
    """
    import torch

    torch.set_num_threads(max(1, min(MAX_THREADS, torch.get_num_threads()) // n_processes))
