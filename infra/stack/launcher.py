"""Start, stop and look at the stack of one state folder.

    up      claim the folder -> stop what a crash left -> plan -> supervisord -> each service when
            what it needs is healthy -> all healthy
    down    supervisord stops everything in reverse order -> what still carries the marker is
            stopped too

Until `hand_over`, the stack belongs to the process that called `up` and ends with it (guard.py).
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.endpoints import Endpoints, given
from infra.stack.guard import is_alive
from infra.stack.leftovers import find_leftovers, stop_leftovers
from infra.stack.log_stream import last_lines, size_bytes
from infra.stack.plan import External, Narrator, Plan, make_plan, moved_ports, variable_of
from infra.stack.ports import PortReservations
from infra.stack.services import Service
from infra.stack.state import StateFolder, write_atomically
from infra.stack.supervision import Supervisor
from protos.errors import DependencyDown, NotReady

STACK_FORMAT = 1
_LOOK_S = 0.1
_EXTERNAL_S = 20.0
_MAX_CRASHES = 1
"""A service that dies more often than this before it was ever healthy will not make it."""

PlanMaker = Callable[[frozenset[str], StateFolder, PortReservations, Narrator], Plan]


@dataclass(frozen=True, slots=True)
class AlreadyUp:
    """What `up` found instead of starting anything."""

    names: frozenset[str]


class Stack:
    """The stack of one state folder, up or not."""

    def __init__(self, state: StateFolder, narrator: Narrator) -> None:
        self.state = state
        self._narrator = narrator
        self.supervisor = Supervisor(state)

    def up(
        self,
        wanted: frozenset[str],
        *,
        default_ports: bool = True,
        plan_maker: PlanMaker | None = None,
    ) -> Plan | AlreadyUp:
        """Start the wanted parts and return when all are healthy.

        Args:
            plan_maker: makes another table of services, for tests.

        Raises:
            NotReady: something is missing, or a service does not become healthy. Everything that
                was started is stopped again; the logs stay.
            DependencyDown: an external part does not answer.
        """
        self.state.claim()
        with self.state.locked():
            if (running := self.running()) is not None:
                return AlreadyUp(running)
            self._stop_leftovers()
            self.state.own(os.getpid())
            try:
                return self._start(wanted, default_ports, plan_maker)
            except BaseException:  # Ctrl-C too
                self.down()
                raise

    def running(self) -> frozenset[str] | None:
        """Return the names of what is up here; None when nothing is, or only without its owner."""
        owner = self.state.owner()
        if self.supervisor.pid() is None or (owner is not None and not is_alive(owner)):
            return None
        return frozenset(part["name"] for part in self.recorded()) or None

    def hand_over(self, owner: int | None) -> None:
        """Let the stack outlive the process that started it, and end with `owner` if one is
        named."""
        self.state.own(owner)

    def down(self) -> list[str]:
        """Stop everything of this state folder; return what had to be stopped one by one.

        Does nothing where nothing runs. Leaves the data.
        """
        self._narrator.doing("stopping")
        parts = self.recorded()
        patience = sum(float(part.get("stop_s", 0)) + 2 for part in parts) + 10
        # What needs others drains at once, while those it needs still run.
        self.supervisor.shut_down(patience, [p["name"] for p in parts if p.get("needs")])
        stopped = stop_leftovers(self.state.state_id)
        self.supervisor.reap()
        for path in (self.state.stack_file, self.state.socket):
            path.unlink(missing_ok=True)
        self.state.own(None)
        return stopped

    def is_running(self) -> bool:
        """Whether `down` would have anything to stop."""
        return self.supervisor.pid() is not None or bool(find_leftovers(self.state.state_id))

    def recorded(self) -> list[dict[str, str]]:
        """Return the parts in stack.json; none when the stack is not up."""
        try:
            parts: list[dict[str, str]] = json.loads(self.state.stack_file.read_text())["parts"]
        except (FileNotFoundError, ValueError, KeyError):
            return []
        return parts

    def _start(
        self, wanted: frozenset[str], default_ports: bool, plan_maker: PlanMaker | None
    ) -> Plan:
        addresses = given(os.environ)
        with PortReservations(self.state.state_id) as ports:
            if plan_maker is not None:
                plan = plan_maker(wanted, self.state, ports, self._narrator)
            else:
                plan = make_plan(
                    wanted,
                    self.state,
                    ports,
                    addresses,
                    self._narrator,
                    default_ports=default_ports,
                )
            for sentence in moved_ports(plan) if default_ports else ():
                self._narrator.done(sentence)
            write_atomically(self.state.stack_file, stack_json(plan, self.state))
            self.supervisor.launch(plan.services, plan.endpoints.environment())
            for external in plan.externals:
                self._await_external(external)
            _Start(plan.services, self.supervisor, self.state.logs, self._narrator).run()
        return plan

    def _stop_leftovers(self) -> None:
        if self.is_running() and (stopped := self.down()):
            self._narrator.done(f"stopped what an earlier run left: {', '.join(stopped)}")

    def _await_external(self, external: External) -> None:
        self._narrator.doing(f"{external.name}: asking {external.address}")
        deadline = time.monotonic() + _EXTERNAL_S
        while not external.probe.is_healthy():
            if time.monotonic() > deadline:
                raise DependencyDown(
                    f"{external.name} at {external.address} does not answer; start it, or unset "
                    f"{variable_of(external)} to have one started here"
                )
            time.sleep(_LOOK_S)
        self._narrator.done(f"{external.name} at {external.address} answers (not started here)")


def stack_json(plan: Plan, state: StateFolder) -> str:
    """Return the record of a running stack, for Endpoints and `freshet status`."""
    rows = [
        {
            "name": row.name,
            "address": row.address,
            "probe": row.probe.kind,
            "target": row.probe.target,
            "stop_s": str(row.stop_s),
            "needs": ",".join(row.needs),
        }
        for row in plan.services
    ]
    rows += [
        {
            "name": part.name,
            "address": part.address,
            "probe": part.probe.kind,
            "target": part.probe.target,
            "external": "yes",
        }
        for part in plan.externals
    ]
    fields = Endpoints.__dataclass_fields__
    endpoints = {name: getattr(plan.endpoints, name) for name in fields}
    record = {
        "format": STACK_FORMAT,
        "state_id": state.state_id,
        "endpoints": endpoints,
        "parts": rows,
    }
    return json.dumps(record, indent=2) + "\n"


class _Start:
    """One start: each service as soon as what it needs is healthy."""

    def __init__(
        self,
        services: Sequence[Service],
        supervisor: Supervisor,
        logs: Path,
        narrator: Narrator,
    ) -> None:
        self._services = services
        self._supervisor = supervisor
        self._logs = logs
        self._narrator = narrator
        self._started: dict[str, float] = {}
        self._healthy: set[str] = set()
        self._pids: dict[str, set[int]] = {service.name: set() for service in services}
        self._log_sizes = {name: size_bytes(logs / f"{name}.log") for name in self._pids}

    def run(self) -> None:
        while len(self._healthy) < len(self._services):
            for service in self._services:
                if service.name not in self._started:
                    self._start_if_due(service)
                elif service.name not in self._healthy:
                    self._check(service)
            waiting = [name for name in self._started if name not in self._healthy]
            self._narrator.doing(f"starting {', '.join(waiting)}")
            time.sleep(_LOOK_S)
            self._look_at_pids()

    def _start_if_due(self, service: Service) -> None:
        names = self._pids.keys()
        if all(need in self._healthy for need in service.needs if need in names):
            self._supervisor.start(service.name)
            self._started[service.name] = time.monotonic()
            if service.note:
                self._narrator.done(service.note)

    def _check(self, service: Service) -> None:
        seconds = time.monotonic() - self._started[service.name]
        if service.probe.is_healthy():
            self._healthy.add(service.name)
            where = f" at {service.address}" if service.address else ""
            self._narrator.done(f"{service.name} is healthy{where} ({seconds:.1f} s)")
        elif seconds > service.start_s:
            raise self._failure(service.name, f"was not healthy within {service.start_s:.0f} s")

    def _look_at_pids(self) -> None:
        known = self._supervisor.services()
        if not known:
            raise NotReady("the stack was stopped while it was starting; run: freshet up")
        for name in self._started.keys() - self._healthy:
            if known[name].pid:
                self._pids[name].add(known[name].pid)
            crashes = len(self._pids[name]) - bool(known[name].pid)
            if crashes > _MAX_CRASHES or known[name].state == "FATAL":
                raise self._failure(name, "stops by itself, again and again")

    def _failure(self, name: str, what: str) -> NotReady:
        log = self._logs / f"{name}.log"
        lines = last_lines(log, 8, after_bytes=self._log_sizes[name])
        said = "\n".join(f"  {line}" for line in lines)
        return NotReady(f"{name} {what}; its log ({log}) ends:\n{said}")


@contextmanager
def running_stack(
    state: Path,
    only: frozenset[str],
    narrator: Narrator,
    *,
    default_ports: bool = False,
) -> Iterator[Endpoints]:
    """Run parts of the stack while the block runs; for tests and benchmarks.

    It ends with this process at the latest, however that ends.
    """
    stack = Stack(StateFolder.at(state), narrator)
    plan = stack.up(only, default_ports=default_ports)
    if isinstance(plan, AlreadyUp):
        raise NotReady(f"a stack is already up in {state}; take another state folder")
    try:
        yield plan.endpoints
    finally:
        stack.down()


class Silent:
    """A narrator who says nothing."""

    def doing(self, text: str) -> None:
        pass

    def done(self, text: str) -> None:
        pass
