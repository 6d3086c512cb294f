"""No door of ours stands open to the network unless somebody says so.

A process that listens beyond loopback without what its door needs refuses to start, and names the
settings that are missing; FRESHET_INSECURE=true is the word that lets it.
"""

import ipaddress

import structlog

from infra.settings import DoorSettings
from protos.errors import NotReady

log = structlog.get_logger(__name__)

SERVICE_NEEDS = ("tls_cert", "tls_key", "api_keys")
"""Of gRPC servers and of the page."""
METRICS_NEEDS = ("tls_cert", "tls_key", "tls_client_ca")
"""Scrapers show a certificate; they belong to no tenant."""


def check_door(address: str, doors: DoorSettings, needs: tuple[str, ...] = SERVICE_NEEDS) -> None:
    """Raise NotReady when listening on `address` (host:port) would let in whoever comes."""
    host = address.rpartition(":")[0]
    lacking = [f"FRESHET_{name.upper()}" for name in needs if getattr(doors, name) is None]
    if is_loopback(host) or not lacking:
        return
    if not doors.insecure:
        raise NotReady(
            f"{address} is beyond loopback and would let in whoever comes; set "
            f"{' and '.join(lacking)}, or FRESHET_INSECURE=true"
        )
    log.warning("door_is_open", address=address, without=lacking)


def check_own_way_in(doors: DoorSettings) -> None:
    """Raise NotReady when our own processes, started with these settings, could not call each
    other."""
    for door, way_in in (
        ("tls_cert", "tls_ca"),
        ("tls_client_ca", "tls_client_cert"),
        ("api_keys", "api_key"),
    ):
        if getattr(doors, door) is not None and getattr(doors, way_in) is None:
            raise NotReady(
                f"FRESHET_{door.upper()} shuts out our own processes too; set "
                f"FRESHET_{way_in.upper()} beside it"
            )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
