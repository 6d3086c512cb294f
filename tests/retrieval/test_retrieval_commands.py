"""The terminal's view, against a real server in this process."""

import asyncio
import json

import pytest
from typer import Typer
from typer.testing import CliRunner

from infra.grpc_server import GrpcServer
from protos.errors import DependencyDown, InvalidInput
from protos.rec.v1.items_pb2 import AttributeValue
from protos.rec.v1.recommend_pb2 import Feed, ScoredItem, Source
from retrieval.commands import feed_table, recommend
from retrieval.service import recommend_service
from tests.retrieval.retrieval_world import interests, state, unit


@pytest.fixture
async def address(world, monkeypatch):
    server = GrpcServer("127.0.0.1:0", [recommend_service(world.servicer)])
    port = await server.start()
    monkeypatch.setenv("FRESHET_RETRIEVAL", f"127.0.0.1:{port}")
    yield
    await server.stop(0)


async def run(*words):
    app = Typer()
    app.command()(recommend)
    return await asyncio.to_thread(CliRunner().invoke, app, list(words))


async def test_a_feed_is_a_table_for_people(world, address):
    world.add_item("7", unit(1, 0, 0, 0), categories=["war"])
    world.add_user(state("u", 1, interests(unit(1, 0, 0, 0))))

    result = await run("u")

    assert result.exit_code == 0
    assert "Title 7" in result.output
    assert "from refined interests" in result.output


async def test_a_feed_is_json_for_programs(world, address):
    world.add_item("7", unit(1, 0, 0, 0))
    world.add_trending(("7", 3.0))

    result = await run("stranger", "--json")

    feed = json.loads(result.output)
    assert (feed["source"], feed["items"][0]["item_id"]) == ("trending", "7")


async def test_a_feed_is_filtered(world, address):
    for row in (1, 2):
        world.add_item(f"{row}", unit(1, 0), attributes={"price": AttributeValue(number=row)})
        world.add_trending(("1", 3.0), ("2", 2.0))

    result = await run("stranger", "--json", "--filter", "price > 1")

    assert [item["item_id"] for item in json.loads(result.output)["items"]] == ["2"]


async def test_a_refusal_is_an_error_of_ours(address):
    result = await run("u", "-n", "0")

    assert isinstance(result.exception, InvalidInput)


async def test_nobody_there_is_an_error_of_ours(monkeypatch):
    monkeypatch.setenv("FRESHET_RETRIEVAL", "127.0.0.1:1")

    result = await run("u")

    assert isinstance(result.exception, DependencyDown)
    assert "127.0.0.1:1" in str(result.exception)


def test_what_moved_is_marked():
    items = [ScoredItem(item_id=item_id, title="[bold]x") for item_id in "bac"]
    feed = Feed(items=items, source=Source.SOURCE_REFINED)

    table = feed_table(feed, "f", before=["a", "b"])

    assert [str(cell) for cell in table.columns[-1].cells] == ["↑ 1", "↓ 1", "new"]
