"""Interests of a session that no history knows: asked of the encoder, nothing is stored."""

import asyncio
from collections import deque
from collections.abc import Sequence

import grpc
import grpc.aio

from infra.channels import aio_channel
from infra.grpc_errors import from_rpc_error
from protos.errors import NotReady
from protos.rec.v1.encoder_pb2 import EncodeSessionRequest, SessionEvent
from protos.rec.v1.encoder_pb2_grpc import EncoderServiceStub
from protos.rec.v1.events_pb2 import Event
from protos.rec.v1.interests_pb2 import Interests, Tier

# grpc itself waits up to two minutes between attempts.
_RECONNECT = (("grpc.max_reconnect_backoff_ms", 1000),)


class EncoderSessions:
    """Asks encoders in turns, and the next one when one is down: nobody knows a session anyway."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._channels = {address: aio_channel(address, _RECONNECT) for address in addresses}
        self._turns = deque((one, EncoderServiceStub(c)) for one, c in self._channels.items())

    async def interests(self, tenant: str, events: Sequence[Event], timeout_s: float) -> Interests:
        """Return refined interests of the events, oldest first. Raises FreshetError."""
        request = EncodeSessionRequest(tenant=tenant, tier=Tier.TIER_REFINED)
        for event in events:
            request.events.append(
                SessionEvent(
                    item_id=event.item_id,
                    action=event.action,
                    event_time_ms=event.event_time_ms,
                )
            )
        self._turns.rotate()
        for n_left in reversed(range(len(self._turns))):
            address, stub = self._turns[n_left]
            try:
                response = await stub.EncodeSession(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and n_left:
                    continue
                raise from_rpc_error(error, f"the encoder at {address}") from error
            interests: Interests = response.interests
            return interests
        raise NotReady("no encoder is configured; set FRESHET_ENCODER")

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))
