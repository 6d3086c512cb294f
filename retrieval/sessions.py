"""Interests of a session that no history knows: asked of the encoder, nothing is stored."""

from collections.abc import Sequence

import grpc
import grpc.aio

from infra.grpc_errors import from_rpc_error
from infra.grpc_server import CHANNEL_OPTIONS
from protos.rec.v1.encoder_pb2 import EncodeSessionRequest, SessionEvent
from protos.rec.v1.encoder_pb2_grpc import EncoderServiceStub
from protos.rec.v1.events_pb2 import Event
from protos.rec.v1.interests_pb2 import Interests, Tier

# grpc itself waits up to two minutes between attempts.
_RECONNECT = (("grpc.max_reconnect_backoff_ms", 1000),)


class EncoderSessions:
    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.aio.insecure_channel(address, options=(*CHANNEL_OPTIONS, *_RECONNECT))
        self._stub = EncoderServiceStub(self._channel)

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
        try:
            response = await self._stub.EncodeSession(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, f"the encoder at {self._address}") from error
        interests: Interests = response.interests
        return interests

    async def close(self) -> None:
        await self._channel.close()
