import pytest

from retrieval.catalogue import Catalogue
from retrieval.store import Store
from tests.retrieval.recommending import served
from tests.retrieval.retrieval_world import World


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def catalogue(store):
    return Catalogue(store, max_bytes=2**20)


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
async def stub(world):
    async with served(world) as stub:
        yield stub
