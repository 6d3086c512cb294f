import asyncio
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from infra.api_keys import KeyFile, digest_of
from infra.channels import aio_channel
from infra.grpc_errors import from_rpc_error
from infra.grpc_keys import Caller, bearer
from infra.grpc_server import GrpcServer, Service
from infra.settings import DoorSettings
from protos.errors import NotPermitted, Unauthenticated
from protos.rec.v1.events_pb2 import (
    PublishRequest,
    PublishResponse,
    PublishStreamRequest,
    PublishStreamResponse,
)
from protos.rec.v1.events_pb2_grpc import (
    EventServiceServicer,
    EventServiceStub,
    add_EventServiceServicer_to_server,
)
from protos.rec.v1.recommend_pb2 import FeedQuery, StreamFeedRequest, StreamFeedResponse
from protos.rec.v1.recommend_pb2_grpc import (
    RecommendServiceServicer,
    RecommendServiceStub,
    add_RecommendServiceServicer_to_server,
)

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED


def entry(name, tenants):
    return f'[[key]]\nname = "{name}"\nsha256 = "{digest_of(name)}"\ntenants = {tenants}\n'


class Log(EventServiceServicer):
    def __init__(self):
        self.tenants = []

    async def Publish(self, request, context):
        self.tenants.append(request.tenant)
        return PublishResponse()

    async def PublishStream(self, requests, context):
        async for request in requests:
            self.tenants.append(request.publish.tenant)
        return PublishStreamResponse(n_accepted=len(self.tenants))


class Feeds(RecommendServiceServicer):
    def __init__(self):
        self.n_open, self.go_on = 0, asyncio.Event()

    async def StreamFeed(self, request, context):
        self.n_open += 1
        try:
            yield StreamFeedResponse(sequence=0)
            await self.go_on.wait()
            yield StreamFeedResponse(sequence=1)
        finally:
            self.n_open -= 1


class World:
    def __init__(self, path, address, log, feeds):
        self.path, self.address, self.log, self.feeds = path, address, log, feeds

    @asynccontextmanager
    async def channel(self, key):
        doors = DoorSettings(**{"api_key": key} if key else {})
        async with aio_channel(self.address, doors=doors) as channel:
            yield channel

    async def publish(self, key, tenant):
        async with self.channel(key) as channel:
            return await EventServiceStub(channel).Publish(PublishRequest(tenant=tenant), timeout=5)


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setattr("infra.api_keys.LOOK_EVERY_S", 0.0)
    path, log, feeds = tmp_path / "keys.toml", Log(), Feeds()
    path.write_text(entry("a", ["a", "a2"]) + entry("own", ["*"]) + entry("plain", ["default"]))
    services = [
        Service("e", lambda s: add_EventServiceServicer_to_server(log, s)),
        Service("r", lambda s: add_RecommendServiceServicer_to_server(feeds, s)),
    ]
    server = GrpcServer("127.0.0.1:0", services, doors=DoorSettings(api_keys=path))
    port = await server.start()
    await server.set_serving()
    yield World(path, f"127.0.0.1:{port}", log, feeds)
    feeds.go_on.set()
    await server.stop(grace_s=0)


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize(
    ("key", "tenant"), [("a", "a"), ("a", "a2"), ("own", "b"), ("own", ""), ("plain", "")]
)
async def test_a_key_opens_for_its_tenants(world, key, tenant):
    await world.publish(key, tenant)

    assert world.log.tenants == [tenant]


@pytest.mark.parametrize(("key", "tenant"), [("a", "b"), ("a", ""), ("plain", "a")])
async def test_and_for_no_other(world, key, tenant):
    error = await refusal(world.publish(key, tenant))

    assert error.code() is PERMISSION_DENIED
    assert isinstance(from_rpc_error(error, "the gateway"), NotPermitted)
    assert world.log.tenants == []


@pytest.mark.parametrize(
    ("key", "said"), [("", "send an API key"), ("wrong", "is not known, or no longer valid")]
)
async def test_without_a_key_that_is_known_nobody_comes_in(world, key, said):
    error = await refusal(world.publish(key, "a"))

    info = error_details_pb2.ErrorInfo()
    assert error.code() is UNAUTHENTICATED
    assert said in error.details()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    assert info.reason == "UNAUTHENTICATED"
    assert isinstance(from_rpc_error(error, "x"), Unauthenticated)
    assert world.log.tenants == []


async def test_what_a_stranger_sends_is_not_even_parsed(world):
    async with world.channel("") as channel:
        call = channel.unary_unary("/rec.v1.EventService/Publish")
        stranger = await refusal(call(b"\xff no message", timeout=5))

    assert stranger.code() is UNAUTHENTICATED


async def test_a_stream_of_requests_ends_at_the_first_of_another_tenant(world):
    requests = [
        PublishStreamRequest(publish=PublishRequest(tenant=tenant)) for tenant in ("a", "b", "a2")
    ]
    async with world.channel("a") as channel:
        call = EventServiceStub(channel).PublishStream(iter(requests), timeout=5)
        error = await refusal(call)

    assert error.code() is PERMISSION_DENIED
    assert world.log.tenants == ["a"]


async def test_a_stream_of_requests_wants_a_key_before_the_first(world):
    async with world.channel("") as channel:
        error = await refusal(EventServiceStub(channel).PublishStream(iter(()), timeout=5))

    assert error.code() is UNAUTHENTICATED


@pytest.mark.parametrize(("tenant", "code"), [("b", PERMISSION_DENIED), ("", PERMISSION_DENIED)])
async def test_a_feed_of_another_tenant_is_not_opened(world, tenant, code):
    request = StreamFeedRequest(query=FeedQuery(tenant=tenant))
    async with world.channel("a") as channel:
        error = await refusal(RecommendServiceStub(channel).StreamFeed(request, timeout=5).read())

    assert error.code() is code
    assert world.feeds.n_open == 0


@pytest.mark.parametrize(
    ("keys", "code"),
    [(entry("own", ["*"]), UNAUTHENTICATED), (entry("a", ["a2"]), PERMISSION_DENIED)],
)
async def test_a_feed_that_is_open_ends_with_its_key(world, keys, code):
    request = StreamFeedRequest(query=FeedQuery(tenant="a"))
    async with world.channel("a") as channel:
        call = RecommendServiceStub(channel).StreamFeed(request, timeout=5)
        first = await call.read()
        world.path.write_text(keys)
        world.feeds.go_on.set()
        error = await refusal(call.read())

    assert first.sequence == 0
    assert error.code() is code
    assert world.feeds.n_open == 0


async def test_health_is_open_and_reflection_is_not(world):
    async with world.channel("") as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        error = await refusal(_services(channel))
    async with world.channel("plain") as channel:
        names = await _services(channel)

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert error.code() is UNAUTHENTICATED
    assert "e" in names


async def _services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([ask]), timeout=5)]
    return {service.name for service in answer.list_services_response.service}


def test_with_keys_off_nothing_stands_in_the_way():
    assert GrpcServer._keys_of(DoorSettings()) == []


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ([("authorization", "Bearer k")], "k"),
        ([("authorization", "bearer  k ")], "k"),
        ([("x", "Bearer k")], ""),
        ([("authorization", "Basic k")], ""),
        ([("authorization", "k")], ""),
        ([("authorization-bin", b"Bearer k")], ""),
        ([], ""),
    ],
)
def test_the_key_is_a_bearer_token(metadata, key):
    assert bearer(metadata) == key


def test_a_refusal_names_no_tenant_but_the_keys_own(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(entry("k", [f"t{number}" for number in range(9)]))
    caller = Caller(KeyFile(path), "k")

    with pytest.raises(NotPermitted) as refused:
        caller.check({"secret"})

    assert "it may for t0, t1, t2, t3, t4, ... (" in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_reflection_refuses_a_stranger_who_asks_nothing(world):
    async with world.channel("") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        error = await refusal(stub.ServerReflectionInfo(iter(()), timeout=5).read())

    assert error.code() is UNAUTHENTICATED
