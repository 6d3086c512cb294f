import grpc.aio
import pytest

from protos.errors import DependencyDown
from protos.rec.v1.encoder_pb2 import EncodeSessionResponse
from protos.rec.v1.encoder_pb2_grpc import (
    EncoderServiceServicer,
    add_EncoderServiceServicer_to_server,
)
from protos.rec.v1.events_pb2 import Event
from protos.rec.v1.interests_pb2 import Interests
from retrieval.sessions import EncoderSessions

NOBODY = "127.0.0.1:1"


class Encoder(EncoderServiceServicer):
    def __init__(self):
        self.n_asked = 0

    async def EncodeSession(self, request, context):
        self.n_asked += 1
        return EncodeSessionResponse(interests=Interests(dim=len(request.events)))


@pytest.fixture
async def encoders():
    """Two that answer, by address."""
    found, servers = {}, []
    for _ in range(2):
        server, encoder = grpc.aio.server(), Encoder()
        add_EncoderServiceServicer_to_server(encoder, server)
        found[f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"] = encoder
        await server.start()
        servers.append(server)
    yield found
    for server in servers:
        await server.stop(None)


async def ask(addresses, times):
    sessions = EncoderSessions(addresses)
    try:
        for _ in range(times):
            found = await sessions.interests("t", [Event(item_id="i", action="view")], 5)
            assert found.dim == 1
    finally:
        await sessions.close()


async def test_encoders_take_turns(encoders):
    await ask(list(encoders), times=6)

    assert [encoder.n_asked for encoder in encoders.values()] == [3, 3]


async def test_one_that_is_down_is_passed_over(encoders):
    await ask([NOBODY, *encoders], times=6)

    assert sum(encoder.n_asked for encoder in encoders.values()) == 6


async def test_when_all_are_down_the_error_says_so():
    with pytest.raises(DependencyDown, match="encoder at 127"):
        await ask([NOBODY, NOBODY], times=1)
