"""A real Kafka and a real Milvus for these tests, started once a session by the product's own code.

Everything in this folder is marked `integration`. FRESHET_TEST_KAFKA_BOOTSTRAP and
FRESHET_TEST_MILVUS_URI name running ones to use instead. What is started here ends with the
session, even when that is killed: the stack's guard watches it.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.channels import aio_channel
from infra.endpoints import Endpoints
from infra.stack.launcher import Silent, running_stack
from protos.rec.v1 import recommend_pb2, recommend_pb2_grpc
from stream.bench.world import StreamWorld
from tests.integration.whole_stack import freshet

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory) -> Iterator[str]:
    """host:port of a Kafka for the whole session: take a topic prefix of your own."""
    if given := os.environ.get("FRESHET_TEST_KAFKA_BOOTSTRAP"):
        yield given
        return
    state = tmp_path_factory.mktemp("kafka")
    with running_stack(state, frozenset({"kafka"}), Silent()) as endpoints:
        yield endpoints.kafka_bootstrap


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory) -> Iterator[str]:
    """URI of a Milvus that the whole session shares: take collections of your own."""
    if given := os.environ.get("FRESHET_TEST_MILVUS_URI"):
        yield given
        return
    state = tmp_path_factory.mktemp("milvus")
    with running_stack(state, frozenset({"milvus"}), Silent()) as endpoints:
        yield endpoints.milvus_uri


@pytest.fixture(scope="session")
def stack_state(tmp_path_factory) -> Iterator[Path]:
    """The state folder of a whole stack that is up, with a model and some users."""
    state = tmp_path_factory.mktemp("freshet") / ".freshet"
    freshet(state, "data", "fetch", "ml-100k")
    freshet(state, "train", "ml-100k", "--quick")
    try:
        freshet(state, "up", "--detach", "--owner", str(os.getpid()))
        freshet(state, "replay", "ml-100k", "--flat-out", "--limit", "3000")
        yield state
    finally:
        freshet(state, "down", "--purge")


@pytest.fixture
def stack(stack_state: Path) -> Endpoints:
    """Where its parts are."""
    return Endpoints.load(stack_state)


@pytest.fixture
def busy_user(stack: Endpoints) -> str:
    """A user of the replayed data whose feed is refined and full."""

    async def find() -> str:
        async with aio_channel(stack.retrieval) as channel:
            stub = recommend_pb2_grpc.RecommendServiceStub(channel)
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                users = (await stub.ListUsers(recommend_pb2.ListUsersRequest(), timeout=10)).users
                for user in sorted(users, key=lambda user: -user.n_events):
                    query = recommend_pb2.FeedQuery(user_id=user.user_id, n=20)
                    request = recommend_pb2.RecommendRequest(query=query)
                    feed = (await stub.Recommend(request, timeout=10)).feed
                    if feed.source == recommend_pb2.SOURCE_REFINED and len(feed.items) == 20:
                        return user.user_id
                await asyncio.sleep(0.5)
        raise AssertionError("no user had a refined, full feed within two minutes")

    return asyncio.run(find())


@pytest.fixture
def world(kafka_bootstrap: str, tmp_path: Path) -> Iterator[StreamWorld]:
    """Topics of one's own, and workers on them, whose last words a failed test shows."""
    world = StreamWorld(kafka_bootstrap, tmp_path)
    yield world
    world.close()
    for worker in world.workers:
        print(f"--- {worker.name}\n{worker.log()[-8000:]}")
