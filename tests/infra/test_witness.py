import asyncio

import grpc.aio
import pytest

from infra.witness import watch_feed
from protos.errors import DependencyDown, TooLate


@pytest.fixture
async def nobody():
    """A channel to where nobody listens."""
    async with grpc.aio.insecure_channel("127.0.0.1:9") as channel:
        yield channel


async def test_what_the_block_raises_comes_out_as_it_is(nobody):
    with pytest.raises(TooLate, match="no feed"):
        async with watch_feed(nobody, "u"):
            raise TooLate("no feed")


async def test_a_recommender_that_is_away_is_a_dependency_down(nobody):
    with pytest.raises(DependencyDown, match="the recommender"):
        async with watch_feed(nobody, "u"):
            await asyncio.sleep(30)
