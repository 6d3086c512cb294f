import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from infra.grpc_errors import from_rpc_error
from infra.grpc_server import GrpcServer, Service
from protos.errors import InvalidInput, NotReady, Overloaded
from protos.rec.v1 import recommend_pb2, recommend_pb2_grpc

N_AT_ONCE = 1_500
"""grpc drops what is beyond a thousand, unless it is told."""


class Misbehaving(recommend_pb2_grpc.RecommendServiceServicer):
    """Fails in the way the user_id asks for."""

    def _fail(self, how: str) -> None:
        if how == "input":
            raise InvalidInput("n must be 1 to 500")
        if how == "busy":
            raise Overloaded("the queue is full", retry_after_s=2.5)
        if how == "bug":
            raise ZeroDivisionError("a secret")

    async def GetUser(self, request, context):
        if request.user_id == "slow":
            time.sleep(0.5)  # noqa: ASYNC251  # the loop is busy, all others wait at its door
        self._fail(request.user_id)
        return recommend_pb2.GetUserResponse(user_id=request.user_id)

    async def StreamFeed(self, request, context) -> AsyncIterator[recommend_pb2.StreamFeedResponse]:
        yield recommend_pb2.StreamFeedResponse(sequence=0)
        self._fail(request.query.user_id)


@pytest.fixture
async def running():
    def add(server):
        recommend_pb2_grpc.add_RecommendServiceServicer_to_server(Misbehaving(), server)

    server = GrpcServer("127.0.0.1:0", [Service("rec.v1.RecommendService", add)])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel
    await server.stop(grace_s=0)


async def failure(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_an_error_of_ours_arrives_with_its_status_and_reason(running):
    stub = recommend_pb2_grpc.RecommendServiceStub(running[1])

    error = await failure(stub.GetUser(recommend_pb2.GetUserRequest(user_id="input")))

    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT, "n must be 1 to 500",
    )  # fmt: skip
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("INVALID_INPUT", "freshet")


async def test_a_full_queue_says_when_to_retry(running):
    stub = recommend_pb2_grpc.RecommendServiceStub(running[1])

    error = await failure(stub.GetUser(recommend_pb2.GetUserRequest(user_id="busy")))

    retry = error_details_pb2.RetryInfo()
    assert rpc_status.from_call(error).details[1].Unpack(retry)
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (2, 500_000_000)


async def test_a_bug_leaks_no_text(running):
    stub = recommend_pb2_grpc.RecommendServiceStub(running[1])

    error = await failure(stub.GetUser(recommend_pb2.GetUserRequest(user_id="bug")))

    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()


async def test_a_stream_keeps_what_it_sent_before_it_failed(running):
    stub = recommend_pb2_grpc.RecommendServiceStub(running[1])
    request = recommend_pb2.StreamFeedRequest(query=recommend_pb2.FeedQuery(user_id="input"))

    call = stub.StreamFeed(request)
    first = await call.read()
    error = await failure(call.read())

    assert first.sequence == 0
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_client_gets_our_error_back(running):
    stub = recommend_pb2_grpc.RecommendServiceStub(running[1])

    error = await failure(stub.GetUser(recommend_pb2.GetUserRequest(user_id="busy")))
    ours = from_rpc_error(error, "the recommender at x")

    assert isinstance(ours, Overloaded)
    assert str(ours) == "the recommender at x: the queue is full"


async def test_health_follows_the_life_of_the_server(running):
    server, channel = running
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="rec.v1.RecommendService")

    warming = await health.Check(request)
    await server.set_serving()
    ready = await health.Check(request)

    assert warming.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert ready.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_call_in_flight_ends_within_the_grace_and_watchers_see_the_drain(running):
    server, channel = running
    await server.set_serving()
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

    stopping = asyncio.create_task(server.stop(grace_s=1))

    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await stopping


async def test_grpcurl_finds_the_services_by_reflection(running):
    stub = reflection_pb2_grpc.ServerReflectionStub(running[1])
    ask = reflection_pb2.ServerReflectionRequest(list_services="")

    (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([ask]))]

    names = {service.name for service in answer.list_services_response.service}
    assert {"rec.v1.RecommendService", "grpc.health.v1.Health"} <= names


async def test_a_taken_port_is_said_in_one_sentence():
    taken = GrpcServer("127.0.0.1:0", [])
    port = await taken.start()

    with pytest.raises(NotReady, match=f"cannot listen on 127.0.0.1:{port}"):
        await GrpcServer(f"127.0.0.1:{port}", []).start()
    await taken.stop(grace_s=0)


async def test_calls_that_come_in_a_crowd_while_the_loop_is_busy_are_all_answered(running):
    stub = recommend_pb2_grpc.RecommendServiceStub(running[1])
    slow = stub.GetUser(recommend_pb2.GetUserRequest(user_id="slow"))
    await slow.wait_for_connection()

    crowd = [stub.GetUser(recommend_pb2.GetUserRequest(user_id=f"u{n}")) for n in range(N_AT_ONCE)]

    answers = await asyncio.gather(slow, *crowd, return_exceptions=True)
    assert [type(one) for one in answers] == [recommend_pb2.GetUserResponse] * (N_AT_ONCE + 1)
