"""What `freshet status` shows: each part, its process, its health and its memory."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import cast

import psutil

from infra.stack.launcher import Stack
from infra.stack.probes import Kind, Probe
from infra.stack.supervision import GUARD, ServiceState

_LIVING = {"STARTING", "RUNNING"}


@dataclass(frozen=True, slots=True)
class Row:
    """One part of the stack. `pid`, `since_ms` and `memory_bytes` are None for external parts and
    for what does not run; the memory includes child processes."""

    name: str
    state: str
    is_healthy: bool
    address: str
    pid: int | None
    since_ms: int | None
    memory_bytes: int | None

    def as_json(self) -> dict[str, str | int | bool | None]:
        return asdict(self)


def status_rows(stack: Stack) -> list[Row]:
    """Return one row a part, in the order of the table; none when the stack is not up."""
    parts = stack.recorded()
    supervisor = stack.supervisor.pid()
    if not parts or (supervisor is None and not stack.is_running()):
        return []
    known = stack.supervisor.services()
    with ThreadPoolExecutor(max_workers=len(parts)) as pool:
        healths = pool.map(_is_healthy, parts)
        rows = [_row(part, known, healthy) for part, healthy in zip(parts, healths, strict=True)]
    return [*rows, _supervisor_row(supervisor, known.get(GUARD))]


def _is_healthy(part: dict[str, str]) -> bool:
    return Probe(cast(Kind, part["probe"]), part["target"]).is_healthy()


def _row(part: dict[str, str], known: dict[str, ServiceState], healthy: bool) -> Row:
    name, address = part["name"], part["address"]
    if part.get("external"):
        return Row(name, "external", healthy, address, None, None, None)
    found = known.get(name)
    if found is None:
        return Row(name, "unwatched", False, address, None, None, None)
    living = found.state in _LIVING and found.pid > 0
    # supervisord calls the first seconds "starting", however healthy they are.
    state = "running" if living and healthy else found.state.lower()
    return Row(
        name,
        state,
        healthy and living,
        address,
        found.pid if living else None,
        found.since_ms if living else None,
        memory_bytes(found.pid) if living else None,
    )


def _supervisor_row(pid: int | None, guard: ServiceState | None) -> Row:
    if pid is None:
        return Row("supervisor", "gone", False, "", None, None, None)
    memory = _own_memory(pid) + (_own_memory(guard.pid) if guard and guard.pid else 0)
    try:
        since_ms = int(psutil.Process(pid).create_time() * 1000)
    except psutil.Error:
        since_ms = None
    return Row("supervisor", "running", True, "", pid, since_ms, memory)


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process and its children; 0 when it is gone."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return 0
    return _own_memory(pid) + sum(_own_memory(child.pid) for child in children)


def _own_memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
