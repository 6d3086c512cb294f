import grpc.aio
import pytest

from infra.grpc_server import GrpcServer
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from retrieval.service import recommend_service
from tests.retrieval.retrieval_world import World


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
async def stub(world):
    server = GrpcServer("127.0.0.1:0", [recommend_service(world.servicer)])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RecommendServiceStub(channel)
    await world.servicer.close()
    await server.stop(0)
