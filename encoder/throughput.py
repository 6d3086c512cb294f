"""How well a run uses the machine: its arithmetic a second over what matrices reach here."""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

SIZE, LEAST_S = 1024, 0.3
FIRST_STEPS = 2
"""Of a process, in a stage: they fill caches."""


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of a large product of matrices: the peak that
    can be reached, not the one on a data sheet."""
    left, right = (torch.randn(SIZE, SIZE, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    until = time.monotonic() + LEAST_S
    while time.monotonic() < until:
        start = time.monotonic()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * SIZE**3 / (time.monotonic() - start))
    return best


class Throughput:
    """Events a second of a stage, and the share of the peak that its steps reach.

    The first step of each epoch is counted. Counting slows a step down, so it is left out of the
    events a second; and it changes how a step rounds, so which steps are counted must not depend on
    when a run was resumed.
    """

    def __init__(self, peak: float) -> None:
        self._peak = peak
        self._flops = self._events = self._seconds = 0.0
        self._counted_events = 0.0
        self._n_steps = 0

    def add(self, n_events: int, seconds: float, counter: FlopCounterMode | None) -> None:
        self._n_steps += 1
        if counter is not None:
            self._flops = float(counter.get_total_flops())
            self._counted_events = n_events
        elif self._n_steps > FIRST_STEPS:
            self._events += n_events
            self._seconds += seconds

    @property
    def events_per_s(self) -> float:
        return self._events / self._seconds if self._seconds else 0.0

    @property
    def share_of_peak(self) -> float:
        """0 to 1; 0 while unknown."""
        if not self._counted_events:
            return 0.0
        flops_per_event = self._flops / self._counted_events
        return flops_per_event * self.events_per_s / self._peak
