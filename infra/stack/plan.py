"""What this start will run: which parts, on which ports, with which commands.

A part whose address is given (FRESHET_KAFKA_BOOTSTRAP, FRESHET_MILVUS_URI) is external: it is asked
for its health and otherwise left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from infra.endpoints import Endpoints, variable
from infra.stack.kafka_server import ensure_jars, kafka_service, require_java
from infra.stack.milvus_server import (
    COMPONENT_PORTS,
    OTHER_PORTS,
    ensure_binaries,
    milvus_service,
    require_package,
)
from infra.stack.ports import PortReservations
from infra.stack.probes import Probe, milvus_probe
from infra.stack.services import NAMES, Service, own_services
from infra.stack.state import StateFolder
from infra.stack.supervision import require_supervisor
from protos.errors import InvalidInput, NotReady

KAFKA_PORT, MILVUS_PORT = 9092, 19530

# Which field of Endpoints says where a part is.
FIELD_OF = {"kafka": "kafka_bootstrap", "milvus": "milvus_uri"}
_WITH_ADDRESS = ("gateway", "encoder", "retrieval", "web")


class Narrator(Protocol):
    """Tells a person what the launcher does."""

    def doing(self, text: str) -> None:
        """Show what is under way, in place of what was."""

    def done(self, text: str) -> None:
        """Say something that stays on the screen."""


@dataclass(frozen=True, slots=True)
class External:
    """A part that runs elsewhere."""

    name: str
    address: str
    probe: Probe


@dataclass(frozen=True, slots=True)
class Plan:
    services: tuple[Service, ...]
    externals: tuple[External, ...]
    endpoints: Endpoints

    @property
    def names(self) -> frozenset[str]:
        return frozenset({s.name for s in self.services} | {e.name for e in self.externals})


def parse_names(text: str | None) -> frozenset[str]:
    """Return the parts named in "kafka,milvus"; all of them for None.

    Raises:
        InvalidInput: one is unknown.
    """
    if text is None:
        return frozenset(NAMES)
    names = frozenset(word.strip() for word in text.split(",") if word.strip())
    if unknown := sorted(names - set(NAMES)):
        raise InvalidInput(f"no part is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    if not names:
        raise InvalidInput(f"name at least one of {', '.join(NAMES)}")
    return names


def find_externals(wanted: frozenset[str], addresses: Mapping[str, str]) -> tuple[External, ...]:
    """Return the wanted parts whose addresses are given, by field name of Endpoints."""
    found = []
    for name in sorted(wanted & FIELD_OF.keys()):
        if address := addresses.get(FIELD_OF[name]):
            probe = milvus_probe(address) if name == "milvus" else Probe("kafka", address)
            found.append(External(name, address, probe))
    return tuple(found)


def check_requirements(local: frozenset[str], state: StateFolder) -> None:
    """Raise NotReady for what is missing, before anything is started or fetched."""
    if "encoder" in local and not (state.bundle / "config.json").is_file():
        raise NotReady(f"no model bundle in {state.bundle}; run: freshet train ml-100k")
    require_supervisor()
    if "kafka" in local:
        require_java()
    if "milvus" in local:
        require_package()


def make_plan(
    wanted: frozenset[str],
    state: StateFolder,
    ports: PortReservations,
    addresses: Mapping[str, str],
    narrator: Narrator,
    *,
    default_ports: bool = True,
) -> Plan:
    """Prepare the wanted parts (fetch, unpack, format, write configurations).

    Args:
        addresses: those given by settings, by field name of Endpoints.
        default_ports: wish for the well-known ports; tests take free ones at once.

    Raises:
        NotReady: something is missing that the person must install or make.
    """
    externals = find_externals(wanted, addresses)
    local = wanted - {external.name for external in externals}
    check_requirements(local, state)
    services: list[Service] = []
    if "kafka" in local:
        services.append(_kafka(state, ports, narrator, KAFKA_PORT if default_ports else None))
    if "milvus" in local:
        services.append(_milvus(state, ports, narrator, MILVUS_PORT if default_ports else None))
    services += own_services(local, ports, state.bundle, default_ports=default_ports)
    endpoints = Endpoints().updated(addresses).updated(_addresses(services))
    return Plan(tuple(services), externals, endpoints)


def _addresses(services: list[Service]) -> dict[str, str]:
    fields = FIELD_OF | {name: name for name in _WITH_ADDRESS}
    return {fields[row.name]: row.address for row in services if row.name in fields}


def _kafka(
    state: StateFolder, ports: PortReservations, narrator: Narrator, wished: int | None
) -> Service:
    narrator.doing("kafka: looking for its jars")
    jars = ensure_jars(lambda name: narrator.doing(f"kafka: Maven fetches {name} (only once)"))
    port = ports.choose("kafka", wished)
    controller = ports.choose("kafka-controller")
    narrator.doing("kafka: writing its configuration")
    folder = state.path / "kafka"
    return kafka_service(require_java(), jars, folder, port=port, controller_port=controller)


def _milvus(
    state: StateFolder, ports: PortReservations, narrator: Narrator, wished: int | None
) -> Service:
    narrator.doing("milvus: looking for its binaries")
    data = require_package()
    binaries = ensure_binaries(
        data, lambda name: narrator.doing(f"milvus: unpacking {name} (only once)")
    )
    port = ports.choose("milvus", wished)
    others = {name: ports.choose(f"milvus-{name}") for name in (*COMPONENT_PORTS, *OTHER_PORTS)}
    return milvus_service(data, binaries, state.path / "milvus", port=port, ports=others)


def moved_ports(plan: Plan) -> list[str]:
    """Return a sentence for each part that could not have its well-known port."""
    wished = Endpoints()
    fields = FIELD_OF | {name: name for name in _WITH_ADDRESS}
    found = []
    for row in plan.services:
        default = getattr(wished, fields[row.name]) if row.name in fields else row.address
        if row.address != default:
            port = default.rpartition(":")[2]
            found.append(f"port {port} is taken; {row.name} is at {row.address}")
    return found


def variable_of(external: External) -> str:
    """Return the environment variable that made a part external."""
    return variable(FIELD_OF[external.name])
