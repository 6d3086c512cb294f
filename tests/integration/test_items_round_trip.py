"""`freshet items` through a real gateway and a real Kafka."""

import json
import uuid

import pytest
from typer.testing import CliRunner

from infra.kafka_log import open_log
from infra.kafka_topics import Topics
from protos.keys import item_text
from protos.rec.v1.items_pb2 import AttributeValue, Item
from stream.item_commands import app
from tests.integration.test_gateway_process import GatewayProcess

ITEMS = [
    Item(
        item_id='a/b, "c"',
        title="Ünïcode\nin two lines",
        text="A text",
        categories=["one, two", "three"],
        available=False,
        created_at_ms=1_714_557_600_000,
        popularity=0.1,
        attributes={
            "brand": AttributeValue(text='He said "no", 42'),
            "price": AttributeValue(number=0.1),
            "used": AttributeValue(flag=False),
        },
    ),
    Item(item_id="2", title="", text="Only a text", available=True),
    Item(item_id="3", title="Three", attributes={"year": AttributeValue(text="1977")}),
    Item(item_id="4", title="Gone soon"),
]


@pytest.fixture
def prefix():
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run(kafka_bootstrap, prefix, monkeypatch):
    gateway = GatewayProcess(kafka_bootstrap, prefix)
    monkeypatch.setenv("FRESHET_KAFKA_BOOTSTRAP", kafka_bootstrap)
    monkeypatch.setenv("FRESHET_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("FRESHET_GATEWAY", gateway.wait_ready())

    def invoke(*words):
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result.stdout

    yield invoke
    gateway.stop()


def catalogue(bootstrap, prefix, tenant):
    """Return a tenant's items by id as rec.items has them now."""
    newest = {}
    with open_log(bootstrap, Topics(prefix).items) as log:
        for record in log.read():
            newest[record.key] = record.value
    items = [Item.FromString(value) for value in newest.values() if value is not None]
    return {item.item_id: normal(item, tenant) for item in items if item.tenant == tenant}


def normal(item, tenant):
    """Return an item as it stands in a tenant's catalogue: its text is what a model reads."""
    text = item_text(item.title, item.text)
    return Item.FromString(
        item.SerializeToString() + Item(tenant=tenant, text=text).SerializeToString()
    )


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_catalogue_goes_out_and_in_again_unchanged(
    run, kafka_bootstrap, prefix, tmp_path, suffix
):
    first = tmp_path / "first.jsonl"
    first.write_text("".join(json.dumps(row(item)) + "\n" for item in ITEMS))
    run("import", str(first), "--tenant", "shop")
    run("delete", "4", "--tenant", "shop")

    exported = tmp_path / f"out.{suffix}"
    assert "3 items in" in run("export", str(exported), "--tenant", "shop")
    assert "3 items" in run("import", str(exported), "--tenant", "copy")

    for tenant in ("shop", "copy"):
        assert catalogue(kafka_bootstrap, prefix, tenant) == {
            item.item_id: normal(item, tenant) for item in ITEMS if item.item_id != "4"
        }


def row(item):
    """Return an item as a shop would write it in JSON."""
    plain = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in item.attributes.items()
    }
    written = {"item_id": item.item_id, "title": item.title, "text": item.text}
    written |= {"categories": list(item.categories), "attributes": plain}
    if item.HasField("available"):
        written["available"] = item.available
    return written | {"popularity": item.popularity, "created_at_ms": item.created_at_ms or None}
