"""The table of what runs: Freshet's own processes, by name, command, environment and health.

Kafka and Milvus have modules of their own, which add their rows to it. The rest of the package
knows only `Service`, so tests put stand-ins into the table.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.doors import check_own_way_in
from infra.settings import DoorSettings
from infra.stack.ports import PortReservations
from infra.stack.probes import Kind, Probe

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the stack.

    It must stay in the foreground, and stop on its signal within `stop_s` or be killed.
    """

    name: str
    command: tuple[str, ...]
    address: str
    """For people and stack.json; empty where nothing listens but metrics."""
    probe: Probe
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Started only when these are healthy; names that are not in the table are not waited for."""
    directory: Path | None = None
    start_s: float = 120.0
    stop_s: int = 10
    stop_signal: str = "TERM"
    note: str = ""
    """Said once at the start."""


@dataclass(frozen=True, slots=True)
class _Own:
    name: str
    module: str
    prefix: str
    port: int | None
    metrics_port: int
    probe: Kind
    needs: tuple[str, ...]


OWN = (
    _Own("encoder", "encoder.server", "FRESHET_ENCODER", 7052, 9105, "grpc", ("kafka",)),
    _Own("gateway", "stream.gateway", "FRESHET_GATEWAY", 7051, 9101, "grpc", ("kafka",)),
    _Own("stream", "stream.worker", "FRESHET_STREAM", None, 9102, "http", ("kafka", "encoder")),
    _Own(
        "retrieval",
        "retrieval.server",
        "FRESHET_RETRIEVAL",
        7053,
        9103,
        "grpc",
        ("kafka", "milvus"),
    ),
    _Own("web", "retrieval.web", "FRESHET_WEB", 8080, 9104, "http", ("retrieval", "gateway")),
)

# In the order in which they are shown and started.
NAMES = ("kafka", "milvus", *(own.name for own in OWN))


def own_services(
    wanted: frozenset[str],
    ports: PortReservations,
    bundle: Path,
    *,
    default_ports: bool = True,
) -> list[Service]:
    """Return the rows of Freshet's own processes, with ports chosen for them.

    The addresses of the others are not in `environment`: everything gets those from the launcher.

    Raises:
        NotReady: the doors are shut to these processes themselves.
    """
    doors = DoorSettings.load()
    if wanted & {own.name for own in OWN}:
        check_own_way_in(doors)
    rows = []
    for own in OWN:
        if own.name in wanted:
            metrics = ports.choose(
                f"{own.name}-metrics", own.metrics_port if default_ports else None
            )
            port = ports.choose(own.name, own.port if default_ports else None) if own.port else None
            rows.append(_row(own, port, metrics, bundle, doors))
    return rows


def _row(
    own: _Own, port: int | None, metrics_port: int, bundle: Path, doors: DoorSettings
) -> Service:
    environment = {f"{own.prefix}_METRICS_PORT": str(metrics_port)}
    address = f"{LOOPBACK}:{port}" if port else ""
    if address:
        environment[f"{own.prefix}_LISTEN"] = address
    if own.name == "encoder":
        environment[f"{own.prefix}_BUNDLE"] = str(bundle)
    return Service(
        name=own.name,
        command=(sys.executable, "-m", own.module),
        address=address,
        probe=_probe(own.probe, address, metrics_port, doors),
        environment=environment,
        needs=own.needs,
    )


def _probe(kind: Kind, address: str, metrics_port: int, doors: DoorSettings) -> Probe:
    if kind != "http":
        return Probe(kind, address)
    if address:
        return Probe("http", f"{doors.page_scheme}://{address}")
    # A process without a port of its own at least serves its metrics.
    return Probe("http", f"http://{LOOPBACK}:{metrics_port}/metrics")
