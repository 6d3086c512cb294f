"""Every client of ours calls a server with TLS, client certificates and keys, told how by the
environment alone."""

import asyncio

import httpx
import pytest

from infra.channels import aio_channel
from infra.grpc_server import GrpcServer, Service
from infra.stack.probes import Probe
from infra.witness import publish
from protos.history import Shape
from protos.rec.v1.encoder_pb2 import EncodeSessionResponse, GetModelInfoResponse
from protos.rec.v1.encoder_pb2_grpc import (
    EncoderServiceServicer,
    add_EncoderServiceServicer_to_server,
)
from protos.rec.v1.events_pb2 import Event, PublishResponse, Receipt
from protos.rec.v1.events_pb2_grpc import EventServiceServicer, add_EventServiceServicer_to_server
from protos.rec.v1.interests_pb2 import Interests
from protos.rec.v1.recommend_pb2 import Feed, FeedQuery, ListUsersResponse, RecommendResponse
from protos.rec.v1.recommend_pb2_grpc import (
    RecommendServiceServicer,
    add_RecommendServiceServicer_to_server,
)
from retrieval.commands import _ask
from retrieval.sessions import EncoderSessions
from retrieval.web import build_app
from stream.encoder_client import EncoderClient
from tests.infra.certificates import Authority


class Encoder(EncoderServiceServicer):
    async def GetModelInfo(self, request, context):
        shape = Shape()
        return GetModelInfoResponse(
            model_version="m1",
            codebook_version="0" * 16,
            segment_size=shape.segment_size,
            n_levels=shape.n_levels,
            recent_size=shape.recent_size,
        )

    async def EncodeSession(self, request, context):
        return EncodeSessionResponse(interests=Interests(model_version="m1"))


class Recommender(RecommendServiceServicer):
    async def Recommend(self, request, context):
        return RecommendResponse(feed=Feed(recommendation_id="r1"))

    async def ListUsers(self, request, context):
        return ListUsersResponse()


class Gateway(EventServiceServicer):
    async def Publish(self, request, context):
        return PublishResponse(receipt=Receipt(offset=7))


@pytest.fixture
async def address(monkeypatch, tmp_path):
    authority = Authority(tmp_path / "ours")
    settings = authority.servers(tls_client_ca=authority.ca) | authority.clients()
    for name, value in settings.items():
        monkeypatch.setenv(f"FRESHET_{name}".upper(), str(value))
    services = [
        Service("e", lambda s: add_EncoderServiceServicer_to_server(Encoder(), s)),
        Service("r", lambda s: add_RecommendServiceServicer_to_server(Recommender(), s)),
        Service("g", lambda s: add_EventServiceServicer_to_server(Gateway(), s)),
    ]
    server = GrpcServer("127.0.0.1:0", services)
    port = await server.start()
    await server.set_serving()
    yield f"127.0.0.1:{port}"
    await server.stop(grace_s=0)


async def test_the_streams_encoder_client(address):
    client = EncoderClient(address, Shape())
    assert (await client.model()).model_version == "m1"
    await client.close()


async def test_retrievals_sessions(address):
    sessions = EncoderSessions([address])
    answer = await sessions.interests("", [Event(item_id="1", action="click")], 5)
    await sessions.close()

    assert answer.model_version == "m1"


async def test_the_witness(address):
    async with aio_channel(address) as channel:
        receipt, _ = await publish(channel, "u", "1", "click")

    assert receipt.offset == 7


async def test_the_command_line(address, monkeypatch):
    monkeypatch.setenv("FRESHET_RETRIEVAL", address)

    assert (await _ask(FeedQuery(user_id="u", n=1))).recommendation_id == "r1"


async def test_the_probe_of_the_stack(address):
    assert await asyncio.to_thread(Probe("grpc", address).is_healthy)


async def test_the_page(address):
    app = build_app(address, address, "default")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as browser,
    ):
        answer = await browser.get("/api/users")

    assert answer.json() == {"users": [], "next": ""}
