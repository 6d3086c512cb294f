"""What the README promises: grpcurl needs no files, the servers tell it all by reflection."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.grpc_server import GrpcServer, Service
from protos.rec.v1 import (
    encoder_pb2_grpc,
    events_pb2_grpc,
    items_pb2_grpc,
)
from retrieval.service import recommend_service
from tests.retrieval.retrieval_world import World, unit

GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"
BUILD_LIMIT_S = 400
CALL_LIMIT_S = 30
SERVICES = {
    "rec.v1.EncoderService": {"Refresh", "EncodeItems", "EncodeSession", "GetModelInfo"},
    "rec.v1.EventService": {"Publish", "PublishStream", "EraseUser"},
    "rec.v1.ItemService": {"UpsertItems", "DeleteItems"},
    "rec.v1.RecommendService": {
        "Recommend",
        "RecommendNext",
        "StreamFeed",
        "SimilarItems",
        "GetUser",
        "PreviewFeed",
        "ListUsers",
    },
}

pytestmark = pytest.mark.timeout(BUILD_LIMIT_S + 4 * CALL_LIMIT_S)


@pytest.fixture(scope="module")
def grpcurl(tmp_path_factory):
    """Built by go, whose own cache makes all but the first time quick."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed, which builds grpcurl")
    folder = tmp_path_factory.mktemp("gobin")
    environment = os.environ | {"GOBIN": str(folder)}
    build = ["go", "install", GRPCURL]
    try:
        subprocess.run(
            build, check=True, capture_output=True, env=environment, timeout=BUILD_LIMIT_S
        )
    except subprocess.SubprocessError as error:
        pytest.skip(f"grpcurl cannot be built ({error}); is the go module proxy within reach?")
    return folder / "grpcurl"


@pytest.fixture
async def ask(grpcurl: Path, tmp_path):
    """Ask a server that has every service, and a catalogue of one item."""
    world = World(tmp_path)
    world.add_item("50", unit(1, 0, 0, 0))
    world.add_trending(("50", 3.0))
    services = [
        recommend_service(world.servicer),
        # Only their names and shapes are asked for.
        _shape("EncoderService", encoder_pb2_grpc),
        _shape("EventService", events_pb2_grpc),
        _shape("ItemService", items_pb2_grpc),
    ]
    server = GrpcServer("127.0.0.1:0", services)
    port = await server.start()

    async def call(*words, options=()):
        command = [*options, "-plaintext", f"127.0.0.1:{port}", *words]
        process = await asyncio.create_subprocess_exec(
            grpcurl, *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), CALL_LIMIT_S)
        finally:
            if process.returncode is None:
                process.kill()
        return process.returncode, said.decode()

    yield call
    await server.stop(0)


def _shape(name, module):
    add = getattr(module, f"add_{name}Servicer_to_server")
    servicer = getattr(module, f"{name}Servicer")()
    return Service(f"rec.v1.{name}", lambda server: add(servicer, server))


async def test_every_service_is_listed(ask):
    code, said = await ask("list")

    assert code == 0, said
    assert {*SERVICES, "grpc.health.v1.Health"} <= set(said.split())


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_is_described_with_all_its_methods(ask, service):
    code, said = await ask("describe", service)

    assert code == 0, said
    methods = {line.split()[1] for line in said.splitlines() if line.strip().startswith("rpc ")}
    assert methods == SERVICES[service]


async def test_a_method_is_called_in_json_alone(ask):
    query = json.dumps({"query": {"user_id": "ada", "n": 10}})

    code, said = await ask("rec.v1.RecommendService/Recommend", options=["-d", query])

    assert code == 0, said
    feed = json.loads(said)["feed"]
    assert (feed["source"], feed["items"][0]["item_id"]) == ("SOURCE_TRENDING", "50")


async def test_a_refusal_says_what_to_change(ask):
    query = json.dumps({"query": {"user_id": "ada"}})

    code, said = await ask("rec.v1.RecommendService/Recommend", options=["-d", query])

    assert code != 0
    assert "n is 0; ask for 1 to 500 items" in said
    assert '"INVALID_INPUT"' in said
