"""How tests ask RecommendService, and a small catalogue to ask for."""

from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from infra.grpc_server import GrpcServer
from infra.kafka_topics import user_partition
from protos.rec.v1.recommend_pb2 import (
    FeedQuery,
    RecommendRequest,
)
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from retrieval.service import recommend_service
from tests.retrieval.retrieval_world import (
    N_PARTITIONS,
    World,
    unit,
)

X, Y = unit(1, 0, 0, 0), unit(0, 1, 0, 0)
PARTITION = user_partition("default", "u", N_PARTITIONS)


@asynccontextmanager
async def served(world: World):
    """Serve a world; give a stub that asks it."""
    server = GrpcServer("127.0.0.1:0", [recommend_service(world.servicer)])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RecommendServiceStub(channel)
    await world.servicer.close()
    await server.stop(0)


def fill(world: World, n_items: int = 12) -> None:
    """Half the items lie along X, from nearest to farthest, half along Y."""
    for row in range(n_items // 2):
        world.add_item(f"x{row}", unit(1, 0, 0.1 * row, 0), categories=["action"])
        world.add_item(f"y{row}", unit(0, 1, 0, 0.1 * row), categories=["drama"])
    world.add_trending(("x5", 9.0), ("y5", 8.0), ("x4", 7.0))


async def recommend(stub, within_s=5, **fields):
    after = fields.pop("after", None)
    session = fields.pop("session", ())
    query = FeedQuery(**{"user_id": "u", "n": 4} | fields)
    request = RecommendRequest(query=query, after=after, session=session)
    return (await stub.Recommend(request, timeout=within_s)).feed


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


def ids(feed):
    return [item.item_id for item in feed.items]
