"""What is done to the running stack, and when all is as before again.

A fault strikes, the stack recovers, the fault is mended (a sleeper wakes, a dead worker comes
back), and the stack recovers again. Recovered means:

* on every partition something is committed that came after the strike, and what is not committed
  yet is less than a second of load;
* every part is healthy, and the killed one is another process now; workers own their partitions;
* with the whole stack, an event has gone in through the gateway and come out in a refined feed.

No fixed sleeps: before each fault the load must have moved on, and each wait has a deadline. What
has not recovered by then ends the faults.
"""

import random
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

from infra.stack.plan import Narrator
from protos.errors import TooLate
from stream.bench.canary import Canary
from stream.bench.crash_site import WORKERS, Crew, Parts
from stream.bench.positions import Positions, PositionWatch

RECOVERY_S = 180.0
ZOMBIE_S = 30.0
_LOOK_S = 0.2
"""A look costs both of the machine's cores some milliseconds."""

Act = Callable[[], None]


def nothing() -> None:
    """Mend what needs no mending."""


@dataclass(frozen=True, slots=True)
class Fault:
    cause: str
    n_kills: int
    strike: Act
    mend: Act = nothing


@dataclass(slots=True)
class Toll:
    """What was done, and what it cost."""

    kills: Counter[str] = field(default_factory=Counter)
    """SIGKILLs by cause."""
    n_zombies: int = 0
    zombie_exits: Counter[str] = field(default_factory=Counter)
    """How woken sleepers ended: their exit code, or "alive" (ended by us)."""
    recovery_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    uncommitted: list[int] = field(default_factory=list)
    """Records that were not committed when a fault struck."""
    not_recovered: str = ""
    stops: list[int] = field(default_factory=list)
    """Exit codes of the workers at the end."""

    @property
    def n_kills(self) -> int:
        return self.kills.total()

    def medians(self) -> dict[str, float]:
        return {cause: round(median(all_s), 1) for cause, all_s in self.recovery_s.items()}


class Faults:
    def __init__(self, crew: Crew, parts: Parts, toll: Toll) -> None:
        self._crew, self._parts, self._toll = crew, parts, toll

    def few(self) -> list[Fault]:
        """Return one round for a stack of Kafka, gateway and workers, the harshest first."""
        a, b = WORKERS
        return [
            self._killed("both workers, disks wiped", a, b, wipe=True),
            self._zombie(b),
            self._part("kafka"),
            self._killed("worker", a),
            self._part("gateway"),
            self._left_dead(a),
            self._killed("both workers", a, b),
            self._killed("worker, disk wiped", b, wipe=True),
        ]

    def all(self) -> list[Fault]:
        """Return one round for the whole stack."""
        a, b = WORKERS
        return [
            *self.few(),
            self._part("encoder"),
            self._twice(b),
            self._part("retrieval"),
            self._part("milvus"),
            self._zombie_between(a, b),
            self._part("web"),
            self._with_kafka(a),
        ]

    def _killed(self, cause: str, *names: str, wipe: bool = False) -> Fault:
        def strike() -> None:
            for name in names:
                self._crew.kill(name, wipe=wipe)
            for name in names:
                self._crew.start(name)

        return Fault(cause, len(names), strike)

    def _twice(self, name: str) -> Fault:
        """Killed, and killed again while it recovers."""

        def strike() -> None:
            self._crew.kill(name, wipe=True)
            self._crew.start(name)
            time.sleep(random.uniform(1.5, 4.0))  # from its imports to its first fold
            self._crew.kill(name)
            self._crew.start(name)

        return Fault("worker, again while it recovers", 2, strike)

    def _left_dead(self, name: str) -> Fault:
        """The other one takes over."""
        return Fault(
            "worker, taken over",
            1,
            lambda: self._crew.kill(name),
            lambda: self._crew.start(name),
        )

    def _zombie(self, name: str) -> Fault:
        """Sleeps until the other one has taken over, and wakes."""
        return Fault("worker asleep, taken over", 0, lambda: self._fall_asleep(name),
                     lambda: self._wake(name))  # fmt: skip

    def _zombie_between(self, sleeper: str, other: str) -> Fault:
        """The one that took over is killed, too, before the sleeper wakes."""

        def mend() -> None:
            self._crew.kill(other)
            self._crew.start(other)
            self._wake(sleeper)

        cause = "worker asleep, its successor killed"
        return Fault(cause, 1, lambda: self._fall_asleep(sleeper), mend)

    def _part(self, name: str) -> Fault:
        return Fault(name, 1, lambda: self._parts.kill(name))

    def _with_kafka(self, name: str) -> Fault:
        def strike() -> None:
            self._parts.kill("kafka")
            self._crew.kill(name)
            self._crew.start(name)

        return Fault("kafka and worker", 2, strike)

    def _fall_asleep(self, name: str) -> None:
        self._crew.pause(name)
        self._toll.n_zombies += 1

    def _wake(self, name: str) -> None:
        """A zombie ends by itself, or has done no harm until we end it."""
        self._crew.wake(name)
        try:
            code = str(self._crew.workers[name].wait(ZOMBIE_S))
        except subprocess.TimeoutExpired:
            code = "alive"
            self._crew.kill(name)
        self._toll.zombie_exits[code] += 1
        self._crew.start(name)


class FaultRunner:
    """Brings faults about, one after the other."""

    def __init__(
        self,
        crew: Crew,
        parts: Parts,
        watch: PositionWatch,
        canary: Canary | None,
        *,
        records_per_s: float,
        narrator: Narrator,
    ) -> None:
        self._crew, self._parts, self._watch, self._canary = crew, parts, watch, canary
        self._records_per_s, self._narrator = records_per_s, narrator

    def run(self, faults: Iterator[Fault], toll: Toll) -> None:
        """Bring about all of them, or those until one from which nothing recovers."""
        for number, fault in enumerate(faults, start=1):
            try:
                self._run_one(number, fault, toll)
            except TooLate as error:
                toll.not_recovered = f"{fault.cause}: {error}"
                self._narrator.done(f"{number:3} {toll.not_recovered}")
                return

    def _run_one(self, number: int, fault: Fault, toll: Toll) -> None:
        self._narrator.doing(f"{number} {fault.cause}: load first")
        toll.uncommitted.append(self._wait_moved_on().lag)
        self._narrator.doing(f"{number} {fault.cause}: struck")
        start = time.monotonic()
        fault.strike()
        toll.kills[fault.cause] += fault.n_kills
        self.wait_recovered()
        recovery_s = time.monotonic() - start
        toll.recovery_s[fault.cause].append(recovery_s)
        if fault.mend is not nothing:
            self._narrator.doing(f"{number} {fault.cause}: mended")
            fault.mend()
            self.wait_recovered()
        said = f"{fault.cause}: recovered in {recovery_s:.1f} s"
        self._narrator.done(f"{number:3} {said}; {toll.n_kills} kills so far")

    def wait_recovered(self) -> None:
        """Raises TooLate."""
        if self._canary is not None:
            self._canary.begin()
        mark: Positions | None = None

        def is_recovered(now: Positions) -> bool:
            nonlocal mark
            mark = mark or now
            caught_up = now.has_passed(mark.ends) and now.lag < self._records_per_s
            if not (caught_up and self._crew.is_ready() and self._parts.are_back()):
                return False
            return self._canary is None or self._canary.is_heard()

        self._wait(is_recovered, "nothing recovered")

    def wait_drained(self) -> bool:
        """Wait until all of the log is committed; False when that does not happen."""
        try:
            self._wait(lambda now: now.lag == 0, "not drained")
        except TooLate:
            return False
        return True

    def _wait_moved_on(self) -> Positions:
        """Wait until a second of load is committed, or more: no checkpoint chooses the moment."""
        first: Positions | None = None
        wanted = self._records_per_s * random.uniform(1.0, 1.5)

        def has_moved(now: Positions) -> bool:
            nonlocal first
            first = first or now
            return now.n_committed - first.n_committed > wanted

        return self._wait(has_moved, "the load did not move on")

    def _wait(self, condition: Callable[[Positions], bool], complaint: str) -> Positions:
        gives_up_at = time.monotonic() + RECOVERY_S
        while True:
            self._crew.tend()
            now = self._watch.look()
            if now is not None and condition(now):
                return now
            if time.monotonic() > gives_up_at:
                raise TooLate(f"{complaint} within {RECOVERY_S:.0f} s (last seen: {now})")
            time.sleep(_LOOK_S)
