"""Prometheus metrics: one endpoint a process, names with units, shared bucket edges."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from prometheus_client import Histogram, start_http_server

from infra.doors import METRICS_NEEDS, check_door, is_loopback
from infra.settings import DoorSettings
from infra.tls import check_certificate

log = structlog.get_logger(__name__)

LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5,
    10, 30,
)  # fmt: skip
"""Finest around the promise: 60 ms at the median, 250 ms at the 99th percentile."""


LOOP_LAG = Histogram(
    "freshet_event_loop_lag_seconds",
    "How much later than it asked for a task of the event loop came on.",
    buckets=LATENCY_BUCKETS_S,
)
LAG_EVERY_S = 0.25


async def watch_loop_lag() -> None:
    """Measure, for ever, how late the running event loop is: what blocks it shows here."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        LOOP_LAG.observe(max(0.0, loop.time() - due))


def serve_metrics(
    port: int, *, host: str = "127.0.0.1", doors: DoorSettings | None = None
) -> Callable[[], None]:
    """Serve /metrics from a thread; return what stops it. Port 0 takes a free one.

    On loopback in the clear; beyond it by TLS, and only for who shows a certificate that
    FRESHET_TLS_CLIENT_CA signed. Raises NotReady without these settings.
    """
    if is_loopback(host):
        server, thread = start_http_server(port, addr=host)
        log.info("metrics_ready", address=f"http://{host}:{server.server_port}/metrics")
    else:
        doors = doors or DoorSettings.load()
        check_door(f"{host}:{port}", doors, METRICS_NEEDS)
        check_certificate(doors)
        server, thread = start_http_server(
            port,
            addr=host,
            certfile=_text(doors.tls_cert),
            keyfile=_text(doors.tls_key),
            client_cafile=_text(doors.tls_client_ca),
            client_auth_required=doors.tls_client_ca is not None,
        )
        log.info("metrics_ready", address=f"{host}:{server.server_port}", tls=bool(doors.tls_cert))

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)

    return stop


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
