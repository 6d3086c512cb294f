"""One deadline, made where a call comes in and passed along; each hop asks what remains."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    at_s: float
    """On the monotonic clock."""

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    def remaining_s(self, *, reserve_s: float = 0.0) -> float:
        """Return the seconds left beyond `reserve_s`, never less than 0."""
        return max(0.0, self.at_s - reserve_s - time.monotonic())
