"""`freshet items` against a real gateway in this process, whose log is in memory."""

import asyncio
import json

import grpc
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from infra.grpc_server import GrpcServer, Service
from protos.errors import DependencyDown, InvalidInput, Overloaded
from protos.rec.v1 import items_pb2, items_pb2_grpc
from protos.rec.v1.items_pb2 import AttributeValue, Item
from stream.gateway_client import GatewayClient
from stream.gateway_service import GatewayMetrics, build_services
from stream.item_commands import app
from stream.item_import import MAX_BATCH_BYTES, Outcome, batches, upsert_all
from stream.item_publisher import ItemPublisher
from stream.producer import Producer
from stream.validity import MAX_ITEM_BYTES, MAX_ITEMS
from tests.stream.fake_writer import FakeWriter


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """A test that names no server reaches none: one may well listen on the default address."""
    for name in ("GATEWAY", "RETRIEVAL", "KAFKA_BOOTSTRAP"):
        monkeypatch.setenv(f"FRESHET_{name}", "127.0.0.1:1")


@pytest.fixture
async def writer(nowhere, monkeypatch):
    writer = FakeWriter()
    services = build_services(
        Producer(writer), ItemPublisher(writer), GatewayMetrics(CollectorRegistry()), limit_s=5.0
    )
    server = GrpcServer("127.0.0.1:0", services)
    port = await server.start()
    monkeypatch.setenv("FRESHET_GATEWAY", f"127.0.0.1:{port}")
    yield writer
    await server.stop(0)


async def run(*words, stdin=None):
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), stdin)


def items_in(writer):
    return [Item.FromString(record.value) for record in writer.log]


async def test_the_rows_of_a_file_are_items(writer, tmp_path):
    (tmp_path / "items.csv").write_text(
        "item_id,title,categories,created_at,available,number.price,flag.used\n"
        "50,Star Wars,Sci-Fi|War,1977-05-25,false,9.5,true\n"
    )

    result = await run("import", str(tmp_path), "--tenant", "shop")

    assert (result.exit_code, result.stdout) == (0, "1 items are in the catalogue, 0 refused\n")
    assert items_in(writer) == [
        Item(
            tenant="shop",
            item_id="50",
            title="Star Wars",
            text="Star Wars Sci-Fi War",
            categories=["Sci-Fi", "War"],
            created_at_ms=233_366_400_000,
            available=False,
            attributes={"price": AttributeValue(number=9.5), "used": AttributeValue(flag=True)},
        )
    ]


async def test_standard_input_is_read_too(writer):
    result = await run("import", "-", "--json", stdin='{"item_id": "1", "title": "One"}\n')

    assert json.loads(result.stdout) | {"seconds": 0} == {
        "n_done": 1,
        "n_refused": 0,
        "problems": [],
        "seconds": 0,
    }
    assert [item.item_id for item in items_in(writer)] == ["1"]


async def test_refused_items_are_counted_and_shown_and_the_others_go_in(writer, tmp_path):
    path = tmp_path / "items.jsonl"
    lines = [
        {"item_id": "1", "title": "One"},
        {"item_id": "2"},
        {"item_id": "3", "title": "Three", "popularity": 1e300},
        {"item_id": "4", "title": "x" * (MAX_ITEM_BYTES + 1)},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    result = await run("import", str(path))

    assert result.exit_code == 1
    assert result.stdout == "1 items are in the catalogue, 3 refused\n"
    assert "items.jsonl line 2: title and text are empty" in result.stderr
    assert "item '3': popularity is inf; give a finite number" in result.stderr
    assert "item '4': the item has 524," in result.stderr
    assert [item.item_id for item in items_in(writer)] == ["1"]


async def test_only_the_first_refusals_are_shown(writer, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": ""}\n' * 50)

    result = await run("import", str(path), "--json")

    found = json.loads(result.stdout)
    assert (result.exit_code, found["n_refused"], len(found["problems"])) == (1, 50, 20)
    assert "and 30 more" in (await run("import", str(path))).stderr


async def test_a_second_import_changes_nothing(writer, tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\n1,One\n2,Two\n")

    await run("import", str(path))
    await run("import", str(path))

    values = [record.value for record in writer.log]
    assert values[:2] == values[2:]


async def test_deleted_items_leave_a_tombstone_each(writer):
    result = await run("delete", "1", "a/b", "--tenant", "shop")

    assert (result.exit_code, result.stdout) == (0, "2 items are deleted, 0 refused\n")
    assert [(one.key, one.value) for one in writer.log] == [
        (b"shop/1", None),
        (b"shop/a%2Fb", None),
    ]


async def test_ids_to_delete_may_come_from_a_file(writer, tmp_path):
    ids = [str(number) for number in range(MAX_ITEMS + 1)]
    (tmp_path / "ids").write_bytes("\r\n".join([*ids, "x" * 257, ""]).encode())

    result = await run("delete", "--from", str(tmp_path / "ids"), "--json")

    found = json.loads(result.stdout)
    assert (result.exit_code, found["n_done"], found["n_refused"]) == (1, MAX_ITEMS + 1, 1)
    assert "more than 256 bytes" in found["problems"][0]["why"]
    assert writer.log[-1].key == b"default/1000"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["delete"], "name the items, or a file"),
        (["delete", "1", "--from", "x"], "name the items, or a file"),
        (["delete", "--from", "/nowhere/x"], "/nowhere/x cannot be read"),
        (["import", "-", "--format", "xml"], "'xml' is none of parquet, csv, jsonl"),
        (["import", "/nowhere/x"], "there is no /nowhere/x; give a file"),
        (["import", "x", "--tenant", "A B"], "tenant 'A B' must match"),
    ],
)
async def test_words_that_cannot_be_meant_are_one_sentence(words, said):
    result = await run(*words)

    assert isinstance(result.exception, InvalidInput)
    assert said in str(result.exception)


async def test_a_gateway_that_is_not_there_is_told_of_at_once(monkeypatch):
    monkeypatch.setenv("FRESHET_GATEWAY", "127.0.0.1:1")

    result = await run("delete", "1", "--timeout-s", "600")

    assert isinstance(result.exception, DependencyDown)
    assert "127.0.0.1:1 cannot be reached; run `freshet up`" in str(result.exception)


class Moody(items_pb2_grpc.ItemServiceServicer):
    """Answers, or fails as its list says, call by call."""

    def __init__(self, *failures):
        self.failures, self.n_calls = list(failures), 0

    async def UpsertItems(self, request, context):
        self.n_calls += 1
        failure = self.failures.pop(0) if self.failures else None
        if failure == "gone":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        if failure is not None:
            raise failure
        results = [
            items_pb2.ItemResult(item_id=one.item_id, accepted=True) for one in request.items
        ]
        return items_pb2.UpsertItemsResponse(results=results)


async def upsert(moody, n_items, timeout_s):
    def add(server):
        items_pb2_grpc.add_ItemServiceServicer_to_server(moody, server)

    server = GrpcServer("127.0.0.1:0", [Service("rec.v1.ItemService", add)])
    port = await server.start()
    outcome = Outcome()
    try:
        async with GatewayClient(f"127.0.0.1:{port}", timeout_s=timeout_s) as gateway:
            items = (Item(item_id=str(number)) for number in range(n_items))
            await upsert_all(items, "default", gateway, outcome)
    finally:
        await server.stop(0)
    return outcome


async def test_a_full_gateway_is_asked_again():
    moody = Moody(Overloaded("full"), Overloaded("full"))

    assert (await upsert(moody, 1, timeout_s=10)).n_done == 1
    assert moody.n_calls == 3


async def test_a_gateway_that_goes_away_in_between_may_come_back():
    moody = Moody(None, "gone", DependencyDown("Kafka"))

    assert (await upsert(moody, MAX_ITEMS + 1, timeout_s=10)).n_done == MAX_ITEMS + 1
    assert moody.n_calls == 4


async def test_an_import_that_cannot_go_on_says_how_far_it_came():
    moody = Moody(None, *["gone"] * 100)

    with pytest.raises(DependencyDown, match="1,000 are done; run the same command again"):
        await upsert(moody, MAX_ITEMS + 1, timeout_s=1)


async def test_a_refusal_of_the_whole_request_is_not_repeated():
    moody = Moody(InvalidInput("no"), None)

    with pytest.raises(InvalidInput):
        await upsert(moody, 1, timeout_s=10)

    assert moody.n_calls == 1


def test_requests_are_no_larger_than_a_server_takes():
    items = [Item(item_id=str(number), text="x" * 200_000) for number in range(50)]
    items += [Item(item_id=f"small{number}") for number in range(MAX_ITEMS + 10)]

    outcome = Outcome()

    found = list(batches([*items, Item(text="x" * 20_000_000)], "default", outcome))

    assert outcome.n_refused == 1
    assert [item for batch in found for item in batch] == items
    assert max(len(batch) for batch in found) == MAX_ITEMS
    assert max(sum(item.ByteSize() for item in batch) for batch in found) <= MAX_BATCH_BYTES
