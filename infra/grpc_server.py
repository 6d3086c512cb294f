"""How every gRPC process of ours serves: health, reflection, statuses, and a drain on SIGTERM.

The life of a process, in order:

    stop = catch_signals()       # infra/process.py
    server = GrpcServer("127.0.0.1:7052", [Service("rec.v1.EncoderService", add)])
    await server.start()         # listening, NOT_SERVING
    ...warm up...
    await server.set_serving()
    await stop
    await server.stop()          # NOT_SERVING at once, calls in flight get `grace_s`
"""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from infra.grpc_errors import StatusInterceptor
from infra.metrics import watch_loop_lag
from protos.errors import NotReady

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 16 * 2**20

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)


@dataclass(frozen=True, slots=True)
class Service:
    """One service to serve: its full name, for health and reflection, and what registers its
    servicer."""

    name: str
    add_to: Callable[[grpc.aio.Server], None]


class GrpcServer:
    def __init__(self, listen: str, services: Sequence[Service]) -> None:
        self._services = services
        self._listen = listen
        self._health = HealthServicer()
        self._lag: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(
            interceptors=[StatusInterceptor()],
            # Two processes on one port would share its calls without a word.
            options=[*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0)],
        )
        for service in services:
            service.add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [service.name for service in services]
        names += [health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    async def start(self) -> int:
        """Listen, health NOT_SERVING; return the port. Raises NotReady when the address is
        taken."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise NotReady(f"cannot listen on {self._listen}: is the port taken?") from error
        await self._server.start()
        self._lag = asyncio.create_task(watch_loop_lag())
        host = self._listen.rpartition(":")[0]
        if not is_loopback(host):
            log.warning(
                "listening_beyond_loopback", address=self._listen, without="TLS and API keys"
            )
        log.info("grpc_listening", address=f"{host}:{port}")
        return port

    async def set_serving(self) -> None:
        await self._set(health_pb2.HealthCheckResponse.SERVING)
        log.info("ready")

    async def stop(self, grace_s: float = 5.0) -> None:
        """Say NOT_SERVING, refuse new calls, give those in flight `grace_s`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        if self._lag is not None:
            self._lag.cancel()
            await asyncio.gather(self._lag, return_exceptions=True)
        log.info("stopped")

    async def _set(self, status: int) -> None:
        for name in ("", *(service.name for service in self._services)):
            await self._health.set(name, status)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
