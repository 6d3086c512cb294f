"""How well a run uses the machine: its arithmetic a second over what matrices reach here."""

import time
from collections.abc import Mapping, Sequence

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

SIZES, LEAST_S = {"cpu": 1024, "cuda": 8192}, 0.3
"""Of matrices as large as a device needs to reach its peak; how long to try."""


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of a large product of matrices: the peak that
    can be reached, not the one on a data sheet."""
    size = SIZES[device.type]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    until = time.monotonic() + LEAST_S
    while time.monotonic() < until:
        start = time.monotonic()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.monotonic() - start))
    return best


class MatmulCounter(TorchDispatchMode):
    """Counts the floating-point operations of matrix products, and changes nothing.

    torch's own FlopCounterMode takes apart what it does not know, which rounds differently.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._flops = 0

    def get_total_flops(self) -> int:
        return self._flops

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        found = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self._flops += count(*args, **(kwargs or {}), out_val=found)
        return found


class Throughput:
    """Events a second of a stage, and the share of the peak that its steps reach.

    A round of the tower is counted as a whole: its first step alone encodes the items, its last
    alone takes gradients back through the tower. Counting slows a step down, so it is left out of
    the events a second, and so is the first round of a process: it fills caches.
    """

    def __init__(self, peak: float, round_steps: int) -> None:
        """
        Args:
            peak: floating-point operations a second.
            round_steps: of the tower.
        """
        self._peak, self._round_steps = peak, round_steps
        self._flops = self._counted_events = 0.0
        self._events = self._seconds = 0.0
        self._n_steps = 0

    def add(self, n_events: int, seconds: float, flops: float | None) -> None:
        """Take in a step, counted or not."""
        self._n_steps += 1
        if flops is not None:
            self._flops += flops
            self._counted_events += n_events
        elif self._n_steps > self._round_steps:
            self._events += n_events
            self._seconds += seconds

    @property
    def events_per_s(self) -> float | None:
        """None while unknown: no step has been timed."""
        return self._events / self._seconds if self._seconds else None

    @property
    def share_of_peak(self) -> float | None:
        """0 to 1; None while unknown."""
        if self.events_per_s is None or not self._counted_events:
            return None
        flops_per_event = self._flops / self._counted_events
        return flops_per_event * self.events_per_s / self._peak

    def to_dict(self) -> dict[str, float | None]:
        """Return both, rounded, as metrics.json has them."""
        events, share = self.events_per_s, self.share_of_peak
        return {
            "events_per_s": None if events is None else round(events),
            "share_of_matmul_peak": None if share is None else round(share, 3),
        }

    def __str__(self) -> str:
        if self.events_per_s is None:
            return "speed unknown, there were too few steps"
        share = "an unknown share" if self.share_of_peak is None else f"{self.share_of_peak:.0%}"
        return f"{self.events_per_s:,.0f} events/s, {share} of the peak of a matrix product here"
