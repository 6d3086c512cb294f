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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from infra.api_keys import KeyFile
from infra.channels import MAX_MESSAGE_BYTES
from infra.doors import check_door
from infra.grpc_errors import StatusInterceptor
from infra.grpc_keys import KeyInterceptor
from infra.metrics import watch_loop_lag
from infra.settings import DoorSettings
from infra.tls import server_credentials
from protos.errors import NotReady

log = structlog.get_logger(__name__)

MAX_CALLS = 16_384
"""At once; more are answered RESOURCE_EXHAUSTED by grpc itself, whatever they ask. Above what the
services themselves allow (10,000 open feeds), whose refusals say more."""
MAX_CALLS_A_CONNECTION = 4_096
"""More wait at the caller until one ends: a caller with more open feeds needs a second channel."""
PEER_IS_LOST_S = 60
"""A connection that is silent for so long is asked for a sign of life, and closed without one:
until then a caller that lost its power holds its open feeds."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service to serve: its full name, for health and reflection, and what registers its
    servicer."""

    name: str
    add_to: Callable[[grpc.aio.Server], None]


class GrpcServer:
    def __init__(
        self,
        listen: str,
        services: Sequence[Service],
        *,
        max_request_bytes: int = MAX_MESSAGE_BYTES,
        doors: DoorSettings | None = None,
    ) -> None:
        """
        Args:
            listen: host:port; port 0 takes a free one.
            max_request_bytes: a larger message is answered RESOURCE_EXHAUSTED, before any of it is
                parsed.
            doors: TLS and API keys; by default as the environment says.

        Raises:
            NotReady: the door would stand open to the network, or a certificate or the file of
                keys cannot be used.
        """
        doors = doors or DoorSettings.load()
        check_door(listen, doors)
        self._services = services
        self._listen = listen
        self._credentials = server_credentials(doors)
        self._health = HealthServicer()
        self._lag: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(
            interceptors=[StatusInterceptor(), *self._keys_of(doors)],
            options=[
                ("grpc.max_receive_message_length", max_request_bytes),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_concurrent_streams", MAX_CALLS_A_CONNECTION),
                ("grpc.keepalive_time_ms", PEER_IS_LOST_S * 1000),
                # Of calls that came while the loop was busy, grpc drops those beyond a thousand
                # without a word; after a restart all readers come back at once.
                ("grpc.server.max_pending_requests", MAX_CALLS),
                ("grpc.server.max_pending_requests_hard_limit", MAX_CALLS),
                # Two processes on one port would share its calls without a word.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=MAX_CALLS,
        )
        for service in services:
            service.add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [service.name for service in services]
        names += [health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    @staticmethod
    def _keys_of(doors: DoorSettings) -> Sequence[grpc.aio.ServerInterceptor]:
        return [KeyInterceptor(KeyFile(doors.api_keys))] if doors.api_keys else []

    async def start(self) -> int:
        """Listen, health NOT_SERVING; return the port. Raises NotReady when the address is
        taken."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(self._listen)
            else:
                port = self._server.add_secure_port(self._listen, self._credentials)
        except RuntimeError as error:
            raise NotReady(f"cannot listen on {self._listen}: is the port taken?") from error
        await self._server.start()
        self._lag = asyncio.create_task(watch_loop_lag())
        host = self._listen.rpartition(":")[0]
        log.info("grpc_listening", address=f"{host}:{port}", tls=self._credentials is not None)
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
