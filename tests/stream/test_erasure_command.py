"""`freshet users erase` against a real gateway whose log is in memory, and a small recommender."""

import asyncio
import json
import sys

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from infra import cli
from infra.grpc_server import GrpcServer, Service
from protos.errors import FreshetError, InvalidInput
from protos.rec.v1.recommend_pb2 import Feed, RecommendResponse
from protos.rec.v1.recommend_pb2_grpc import (
    RecommendServiceServicer,
    add_RecommendServiceServicer_to_server,
)
from stream.erasure_command import app
from stream.gateway_service import GatewayMetrics, build_services
from stream.item_publisher import ItemPublisher
from stream.producer import Producer
from tests.stream.fake_writer import FakeWriter


class Applied(RecommendServiceServicer):
    """Knows of the erasures of some users."""

    def __init__(self):
        self.knows, self.asked = {"ada", "bo"}, []

    async def Recommend(self, request, context):
        self.asked.append(request.after)
        knows = request.query.user_id in self.knows
        return RecommendResponse(feed=Feed(includes_receipt=knows))


@pytest.fixture
def recommender():
    return Applied()


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """A test that names no server reaches none: one may well listen on the default address."""
    for name in ("GATEWAY", "RETRIEVAL", "KAFKA_BOOTSTRAP"):
        monkeypatch.setenv(f"FRESHET_{name}", "127.0.0.1:1")


@pytest.fixture
async def writer(nowhere, monkeypatch, recommender):
    writer = FakeWriter()
    services = build_services(
        Producer(writer), ItemPublisher(writer), GatewayMetrics(CollectorRegistry()), limit_s=5.0
    )

    def add(server):
        add_RecommendServiceServicer_to_server(recommender, server)

    server = GrpcServer("127.0.0.1:0", [*services, Service("rec.v1.RecommendService", add)])
    port = await server.start()
    monkeypatch.setenv("FRESHET_GATEWAY", f"127.0.0.1:{port}")
    monkeypatch.setenv("FRESHET_RETRIEVAL", f"127.0.0.1:{port}")
    yield writer
    await server.stop(0)


async def run(*words):
    return await asyncio.to_thread(CliRunner().invoke, app, ["erase", *words])


async def test_each_user_is_one_erasure_in_the_log_and_one_receipt(writer):
    result = await run("ada", "bo", "ada", "--yes", "--json", "--tenant", "shop", "--reason", "law")

    assert result.exit_code == 0
    batches = [record.batch for record in writer.log]
    assert [(one.tenant, one.user_id, one.erase.reason) for one in batches] == [
        ("shop", "ada", "law"),
        ("shop", "bo", "law"),
    ]
    receipts = json.loads(result.stdout)
    assert [(one["user_id"], one["offset"], one["applied"]) for one in receipts] == [
        ("ada", 0, None),
        ("bo", 0, None),
    ]


async def test_people_see_a_table(writer):
    result = await run("[red]ada", "--yes")

    assert "[red]ada" in result.stdout
    assert "offset" in result.stdout


async def test_without_a_terminal_nothing_is_erased_unless_yes_is_said(writer):
    result = await run("ada")

    assert isinstance(result.exception, InvalidInput)
    assert "say --yes" in str(result.exception)
    assert not writer.log


class Terminal:
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "code", "n_erased"), [(True, None, 1), (False, 1, 0)])
async def test_on_a_terminal_the_answer_decides(writer, monkeypatch, answer, code, n_erased):
    asked = []

    def confirm(question, err):
        asked.append(question)
        return answer

    # Not by CliRunner, which puts a stdin of its own in the place of the terminal.
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", Terminal())
        patch.setattr("typer.confirm", confirm)
        ended = await asyncio.to_thread(app, ["erase", "ada"], standalone_mode=False)

    assert asked == [
        "Erase everything known of ada (1 in all, tenant default)? There is no way back."
    ]
    assert (ended, len(writer.log)) == (code, n_erased)


async def test_one_bad_id_and_nobody_is_erased(writer):
    result = await run("ada", "", "--yes")

    assert isinstance(result.exception, InvalidInput)
    assert not writer.log


async def test_waiting_ends_when_the_recommender_has_the_receipts(writer, recommender):
    result = await run("ada", "bo", "--yes", "--wait", "--json")

    assert result.exit_code == 0
    assert [one["applied"] for one in json.loads(result.stdout)] == [True, True]
    assert [receipt.user_id for receipt in recommender.asked] == ["ada", "bo"]


async def test_what_was_not_applied_in_time_is_an_error_that_shows_the_receipts(writer):
    result = await run("ada", "eve", "--yes", "--wait", "--json")

    assert [one["applied"] for one in json.loads(result.stdout)] == [True, False]
    assert isinstance(result.exception, FreshetError)
    assert "1 of 2 were not applied" in str(result.exception)


async def test_receipts_are_shown_even_when_the_recommender_is_away(writer, monkeypatch):
    monkeypatch.setenv("FRESHET_RETRIEVAL", "127.0.0.1:1")

    result = await run("ada", "--yes", "--wait", "--json")

    assert json.loads(result.stdout)[0]["user_id"] == "ada"
    assert "the recommender at 127.0.0.1:1" in str(result.exception)


def test_erase_stays_a_subcommand_of_users(monkeypatch):
    class Entry:
        name, module = "users", "stream.erasure_command"

        def load(self):
            return app

    monkeypatch.setattr(cli, "entry_points", lambda group: [Entry()])

    result = CliRunner().invoke(cli.build_app(["users"]), ["users", "erase", "--help"])

    assert "There is no way back" in result.stdout
