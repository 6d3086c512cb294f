import pytest

from tests.retrieval.recommending import served
from tests.retrieval.retrieval_world import World


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
async def stub(world):
    async with served(world) as stub:
        yield stub
