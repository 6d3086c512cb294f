"""A real Kafka and a real Milvus for these tests, started once a session by the product's own code.

Everything in this folder is marked `integration`. FRESHET_TEST_KAFKA_BOOTSTRAP and
FRESHET_TEST_MILVUS_URI name running ones to use instead. What is started here ends with the
session, even when that is killed: the stack's guard watches it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.stack.launcher import Silent, running_stack
from stream.bench.world import StreamWorld

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


@pytest.fixture
def world(kafka_bootstrap: str, tmp_path: Path) -> Iterator[StreamWorld]:
    """Topics of one's own, and workers on them, whose last words a failed test shows."""
    world = StreamWorld(kafka_bootstrap, tmp_path)
    yield world
    world.close()
    for worker in world.workers:
        print(f"--- {worker.name}\n{worker.log()[-8000:]}")
