import pytest

from tests.retrieval.retrieval_world import World


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()
