import os
import re
import signal
import subprocess
import sys
import uuid

import grpc.aio
import pytest
from kafka import KafkaConsumer, TopicPartition

from infra.api_keys import digest_of
from infra.channels import aio_channel
from infra.kafka_topics import Topics, user_partition
from infra.settings import DoorSettings
from protos.rec.v1 import events_pb2_grpc, items_pb2, items_pb2_grpc
from protos.rec.v1.events_pb2 import Event, EventBatch, PublishRequest, PublishStreamRequest
from protos.rec.v1.items_pb2 import Item
from tests.infra.certificates import Authority

pytestmark = pytest.mark.integration
N_PARTITIONS = 3


class GatewayProcess:
    """`python -m stream.gateway` on a port of its own choosing."""

    def __init__(self, bootstrap, prefix, **environment):
        environment = os.environ | {
            "FRESHET_KAFKA_BOOTSTRAP": bootstrap,
            "FRESHET_TOPIC_PREFIX": prefix,
            "FRESHET_N_PARTITIONS": str(N_PARTITIONS),
            "FRESHET_GATEWAY_LISTEN": "127.0.0.1:0",
            "FRESHET_GATEWAY_METRICS_PORT": "0",
            "FRESHET_LOG_FORMAT": "json",
            **environment,
        }
        command = [sys.executable, "-m", "stream.gateway"]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.said = []

    def wait_ready(self):
        """Return the address once the gateway says that it is ready."""
        for line in self.process.stderr:
            self.said.append(line)
            if '"ready"' in line:
                listening = next(one for one in self.said if "grpc_listening" in one)
                return re.search(r'"address": "([^"]+)"', listening)[1]
        raise AssertionError("".join(self.said))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.said += self.process.communicate(timeout=30)[1].splitlines()
        return self.process.returncode


@pytest.fixture
def topics():
    return Topics(f"t{uuid.uuid4().hex[:8]}")


@pytest.fixture
def gateway(kafka_bootstrap, topics):
    gateway = GatewayProcess(kafka_bootstrap, topics.prefix)
    yield gateway
    if gateway.process.poll() is None:
        gateway.process.kill()
        gateway.process.communicate(timeout=30)


def read_batch(bootstrap, topic, partition, offset):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    place = TopicPartition(topic, partition)
    consumer.assign([place])
    consumer.seek(place, offset)
    record = next(iter(consumer))
    consumer.close()
    return EventBatch.FromString(record.value)


async def test_what_the_gateway_accepts_is_in_kafka_where_the_receipt_says(
    kafka_bootstrap, topics, gateway
):
    events = [
        Event(item_id="1", action="click", event_id="a"),
        Event(item_id="2", action="peek"),
        Event(item_id="3", action="like", event_id="c"),
    ]
    async with grpc.aio.insecure_channel(gateway.wait_ready()) as channel:
        stub = events_pb2_grpc.EventServiceStub(channel)
        response = await stub.Publish(PublishRequest(user_id="user", events=events), timeout=20)

    receipt = response.receipt
    batch = read_batch(kafka_bootstrap, topics.events, receipt.partition, receipt.offset)
    assert receipt.partition == user_partition("default", "user", N_PARTITIONS)
    assert [event.event_id for event in batch.events] == ["a", "c"]
    assert [one.accepted for one in response.results] == [True, False, True]


async def test_a_long_stream_is_durable_when_it_is_answered(kafka_bootstrap, topics, gateway):
    requests = (
        PublishStreamRequest(
            publish=PublishRequest(
                user_id=f"user{number % 5}", events=[Event(item_id=str(number), action="view")]
            )
        )
        for number in range(2_000)
    )
    async with grpc.aio.insecure_channel(gateway.wait_ready()) as channel:
        stub = events_pb2_grpc.EventServiceStub(channel)
        response = await stub.PublishStream(requests, timeout=60)

    assert (response.n_accepted, response.n_refused) == (2_000, 0)
    newest = {receipt.user_id: receipt for receipt in response.receipts}
    for number in range(1_995, 2_000):
        receipt = newest[f"user{number % 5}"]
        batch = read_batch(kafka_bootstrap, topics.events, receipt.partition, receipt.offset)
        assert batch.events[0].item_id == str(number)


async def test_items_go_in_and_out(gateway):
    async with grpc.aio.insecure_channel(gateway.wait_ready()) as channel:
        stub = items_pb2_grpc.ItemServiceStub(channel)
        upsert = items_pb2.UpsertItemsRequest(items=[Item(item_id="1", title="One"), Item()])
        upserted = await stub.UpsertItems(upsert, timeout=20)
        deleted = await stub.DeleteItems(items_pb2.DeleteItemsRequest(item_ids=["1"]), timeout=20)

    assert [one.accepted for one in upserted.results] == [True, False]
    assert [one.accepted for one in deleted.results] == [True]


async def test_sigterm_drains_and_ends_well(gateway):
    gateway.wait_ready()

    assert gateway.stop() == 0
    assert any("stopped" in line for line in gateway.said)


def test_another_partition_count_stops_the_start_with_one_sentence(
    kafka_bootstrap, topics, gateway, monkeypatch
):
    gateway.wait_ready()
    monkeypatch.setattr(sys.modules[__name__], "N_PARTITIONS", 5)

    second = GatewayProcess(kafka_bootstrap, topics.prefix)
    said = second.process.communicate(timeout=60)[1]

    assert second.process.returncode == 1
    assert "set it to 3" in said
    assert "Traceback" not in said


async def test_with_tls_and_keys_only_who_may_publishes(kafka_bootstrap, topics, tmp_path):
    authority, keys = Authority(tmp_path / "ours"), tmp_path / "keys.toml"
    keys.write_text(f'[[key]]\nname = "shop"\nsha256 = "{digest_of("k")}"\ntenants = ["shop"]\n')
    settings = authority.servers(tls_client_ca=authority.ca, api_keys=keys)
    gateway = GatewayProcess(kafka_bootstrap, topics.prefix, **_environment(settings))
    doors = DoorSettings(**authority.clients(api_key="k"))
    try:
        async with aio_channel(gateway.wait_ready(), doors=doors) as channel:
            stub = events_pb2_grpc.EventServiceStub(channel)
            click = Event(item_id="1", action="click")
            ours = PublishRequest(tenant="shop", user_id="user", events=[click])
            theirs = PublishRequest(tenant="outlet", user_id="user", events=[click])
            receipt = (await stub.Publish(ours, timeout=20)).receipt
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Publish(theirs, timeout=20)
    finally:
        assert gateway.stop() == 0

    batch = read_batch(kafka_bootstrap, topics.events, receipt.partition, receipt.offset)
    assert (batch.tenant, batch.user_id) == ("shop", "user")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_beyond_loopback_the_process_ends_with_one_sentence(kafka_bootstrap, topics):
    gateway = GatewayProcess(kafka_bootstrap, topics.prefix, FRESHET_GATEWAY_LISTEN="0.0.0.0:0")

    _, said = gateway.process.communicate(timeout=60)

    assert gateway.process.returncode == 1
    assert "0.0.0.0:0 is beyond loopback" in said
    assert "Traceback" not in said


def _environment(settings):
    return {f"FRESHET_{name}".upper(): str(value) for name, value in settings.items()}
