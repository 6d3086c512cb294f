import asyncio
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from infra.channels import aio_channel, sync_channel
from infra.grpc_errors import from_rpc_error
from infra.grpc_server import GrpcServer, Service
from infra.settings import DoorSettings
from protos.errors import InvalidInput, NotReady
from protos.rec.v1.recommend_pb2 import (
    GetUserRequest,
    GetUserResponse,
    StreamFeedRequest,
    StreamFeedResponse,
)
from protos.rec.v1.recommend_pb2_grpc import (
    RecommendServiceServicer,
    RecommendServiceStub,
    add_RecommendServiceServicer_to_server,
)
from tests.infra.certificates import Authority

MIB = 2**20


class Echo(RecommendServiceServicer):
    async def GetUser(self, request, context):
        sent = dict(context.invocation_metadata())
        return GetUserResponse(user_id=sent.get("authorization", "nothing"))

    async def StreamFeed(self, request, context):
        sent = dict(context.invocation_metadata())
        yield StreamFeedResponse()
        if request.min_interval_ms:
            await asyncio.sleep(10)
        if "authorization" not in sent:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ours")


@asynccontextmanager
async def serving(doors, **options):
    def add(server):
        add_RecommendServiceServicer_to_server(Echo(), server)

    server = GrpcServer("127.0.0.1:0", [Service("e", add)], doors=DoorSettings(**doors), **options)
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace_s=0)


async def ask(address, doors, options=(), **fields):
    async with aio_channel(address, options, DoorSettings(**doors)) as channel:
        stub = RecommendServiceStub(channel)
        return (await stub.GetUser(GetUserRequest(**fields), timeout=5)).user_id


async def refusal(address, doors, **fields):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(address, doors, **fields)
    return caught.value


def ask_in_a_thread(address, doors):
    with sync_channel(address, doors=DoorSettings(**doors)) as channel:
        return RecommendServiceStub(channel).GetUser(GetUserRequest(), timeout=5).user_id


async def test_without_settings_neither_tls_nor_a_key_is_used():
    async with serving({}) as address:
        assert await ask(address, {}) == "nothing"


async def test_a_client_with_a_certificate_is_let_in_by_mutual_tls(authority):
    async with serving(authority.servers(tls_client_ca=authority.ca)) as address:
        assert await ask(address, authority.clients()) == "nothing"


async def test_a_client_without_a_certificate_is_not(authority):
    async with serving(authority.servers(tls_client_ca=authority.ca)) as address:
        error = await refusal(address, {"tls_ca": authority.ca})

    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_authority_is_not_let_in(authority, tmp_path):
    cert, key = Authority(tmp_path / "theirs").pair("client")
    doors = {"tls_ca": authority.ca, "tls_client_cert": cert, "tls_client_key": key}
    async with serving(authority.servers(tls_client_ca=authority.ca)) as address:
        error = await refusal(address, doors)

    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_trusts_no_server_of_another_authority(authority, tmp_path):
    async with serving(Authority(tmp_path / "theirs").servers()) as address:
        error = await refusal(address, {"tls_ca": authority.ca})

    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_with_tls_answers_nobody_in_the_clear(authority):
    async with serving(authority.servers()) as address:
        error = await refusal(address, {})

    assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("with_tls", [False, True])
async def test_the_key_is_sent_with_every_call(authority, with_tls):
    server, client = (authority.servers(), {"tls_ca": authority.ca}) if with_tls else ({}, {})
    doors = DoorSettings(**client, api_key="k")
    async with (
        serving(server) as address,
        aio_channel(address, doors=doors) as channel,
    ):
        stub = RecommendServiceStub(channel)
        answer = await stub.GetUser(GetUserRequest(), metadata=(("x", "y"),), timeout=5)
        pushes = [push async for push in stub.StreamFeed(StreamFeedRequest(), timeout=5)]

    assert answer.user_id == "Bearer k"
    assert len(pushes) == 1


async def test_threads_have_the_same_way_in(authority):
    async with serving(authority.servers(tls_client_ca=authority.ca)) as address:
        doors = authority.clients(api_key="k")
        assert await asyncio.to_thread(ask_in_a_thread, address, doors) == "Bearer k"


@pytest.mark.parametrize("make", [sync_channel, aio_channel])
async def test_no_key_leaves_the_host_in_the_clear(make):
    with pytest.raises(
        NotReady, match=r"would go to far\.example:7051 in the clear; set FRESHET_T"
    ):
        make("far.example:7051", doors=DoorSettings(api_key="k"))

    said = make("far.example:7051", doors=DoorSettings(api_key="k", insecure=True))
    if make is aio_channel:
        await said.close()
    else:
        said.close()


async def test_a_request_that_is_too_large_is_refused_and_other_calls_go_on():
    async with (
        serving({}, max_request_bytes=2 * MIB) as address,
        aio_channel(address) as channel,
    ):
        stub = RecommendServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetUser(GetUserRequest(user_id="u" * (2 * MIB)), timeout=5)
        after = await stub.GetUser(GetUserRequest(user_id="u" * (2 * MIB - 100)), timeout=5)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max (2097157 vs. 2097152)" in caught.value.details()
    assert after.user_id == "nothing"


async def test_a_small_message_that_unpacks_to_a_large_one_is_refused():
    bomb = GetUserRequest(user_id="u" * (8 * MIB))
    async with (
        serving({}, max_request_bytes=2 * MIB) as address,
        aio_channel(address) as channel,
    ):
        call = RecommendServiceStub(channel).GetUser
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(bomb, timeout=5, compression=grpc.Compression.Gzip)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_does_not_take_a_message_too_large_for_a_busy_server():
    async with serving({}, max_request_bytes=MIB) as address:
        error = from_rpc_error(await refusal(address, {}, user_id="u" * MIB), "the server")

    assert type(error) is InvalidInput
    assert not error.retryable


async def test_calls_beyond_what_a_process_takes_are_refused(monkeypatch):
    monkeypatch.setattr("infra.grpc_server.MAX_CALLS", 1)
    async with serving({}) as address, aio_channel(address) as channel:
        stub = RecommendServiceStub(channel)
        open_feed = stub.StreamFeed(StreamFeedRequest(min_interval_ms=1), timeout=9)
        await open_feed.read()
        error = await refusal(address, {})
        open_feed.cancel()

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_connection_carries_so_many_calls_and_another_one_more(monkeypatch):
    monkeypatch.setattr("infra.grpc_server.MAX_CALLS_A_CONNECTION", 1)
    async with serving({}) as address, aio_channel(address) as channel:
        stub = RecommendServiceStub(channel)
        open_feed = stub.StreamFeed(StreamFeedRequest(min_interval_ms=1), timeout=9)
        await open_feed.read()
        with pytest.raises(grpc.aio.AioRpcError) as waited:
            await stub.GetUser(GetUserRequest(), timeout=0.3)
        # Channels of the same address and options share a connection.
        other = await ask(
            address, {"api_key": "k"}, options=(("grpc.use_local_subchannel_pool", 1),)
        )
        open_feed.cancel()

    assert waited.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert other == "Bearer k"
