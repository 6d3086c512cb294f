"""Producers that are not ours: other hashes, other formats, the command line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import confluent_kafka
import pytest

from infra.datasets import load
from protos.rec.v1.events_pb2 import Event, EventBatch
from stream.bench.histories import differences
from stream.bench.oracle import java_partition, replay
from stream.bench.stub_encoder import StubEncoder
from stream.bench.worker_process import wait_for
from stream.bench.world import N_PARTITIONS

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def encoder():
    encoder = StubEncoder().start()
    yield encoder
    encoder.stop()


@pytest.fixture
def librdkafka(kafka_bootstrap):
    """The client that most languages use; its default partitioner is CRC32."""
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka_bootstrap})
    yield producer
    producer.flush(10)


def freshet(world, *words, stdin="", expect=0, **environment):
    """Run the command line against a world; return what it printed as JSON."""
    environment = (
        os.environ
        | environment
        | {
            "FRESHET_KAFKA_BOOTSTRAP": world.bootstrap,
            "FRESHET_TOPIC_PREFIX": world.prefix,
            "FRESHET_STATE": str(world.folder),
        }
    )
    command = [str(Path(sys.executable).with_name("freshet")), *words, "--json"]
    done = subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == expect, done.stderr
    return json.loads(done.stdout)


def now_ms():
    return time.time_ns() // 1_000_000


def click(item_id, **fields):
    return Event(**{"item_id": item_id, "action": "click", "event_time_ms": now_ms()} | fields)


def items_of(world, user_id):
    return [recent.item_id for recent in world.states()["default", user_id].head.recent]


def test_records_that_librdkafka_partitioned_find_their_users_and_count_once(
    world, encoder, librdkafka
):
    placed = []
    users = [f"u{number}" for number in range(30)]
    for number in range(6):
        for user_id in users:
            batch = EventBatch(user_id=user_id, events=[click(f"i{number}")])
            librdkafka.produce(
                world.topics.events,
                key=f"default/{user_id}".encode(),
                value=batch.SerializeToString(),
                on_delivery=lambda error, message: placed.append((error, message)),
            )
    librdkafka.flush(30)
    assert not any(error for error, _ in placed)
    astray = sum(
        message.partition() != java_partition(message.key().decode(), N_PARTITIONS)
        for _, message in placed
    )
    assert astray > len(users), "CRC32 and murmur2 agreed; the test would show nothing"
    worker = world.worker(encoder.address).start().wait_ready()

    wait_for(lambda: len(world.log()) == len(placed) + astray, "not all were published again")
    world.wait_drained()

    assert worker.metrics()['records_total{outcome="republished"}'] == astray
    states, whole = world.states(), [f"i{number}" for number in range(6)]
    for user_id in users:
        assert [one.item_id for one in states["default", user_id].head.recent] == whole
    assert differences(states, replay(world.log())) == []


def test_json_needs_no_protobuf(world, encoder, librdkafka):
    world.worker(encoder.address).start().wait_ready()
    event = {"item_id": "i1", "action": "click", "event_time_ms": now_ms()}
    value = json.dumps({"user_id": "ann", "events": [event]}).encode()
    headers = [("Content-Type", b"application/json")]
    librdkafka.produce(world.topics.events, key=b"default/ann", value=value, headers=headers)
    librdkafka.produce(world.topics.events, key=b"default/ann", value=b"{", headers=headers)
    librdkafka.flush(10)

    wait_for(lambda: len(world.read(world.topics.dead_letters)) == 1, "no dead letter")
    wait_for(lambda: len(world.log()) >= 3, "the record did not go home")
    world.wait_drained()

    assert items_of(world, "ann") == ["i1"]


def test_lines_of_json_become_events(world, encoder):
    world.worker(encoder.address).start().wait_ready()
    lines = [
        {"user_id": "ann", "item_id": f"i{n}", "action": "click", "event_time_ms": now_ms() + n}
        for n in range(200)
    ]

    told = freshet(world, "produce", stdin="\n".join(map(json.dumps, lines)))

    assert (told["n_sent"], told["n_refused"]) == (200, 0)
    world.wait_drained()
    assert items_of(world, "ann") == [f"i{n}" for n in range(168, 200)]


def test_a_dead_letter_that_is_sent_again_applies_once(world, encoder):
    world.worker(encoder.address).start().wait_ready()
    soon_ms = now_ms() + DAY_MS + 5_000  # too far ahead now, and not in five seconds
    world.publish("ann", [click("i1"), click("early", event_time_ms=soon_ms)]).get(10)
    wait_for(lambda: len(freshet(world, "dlq", "list")) == 1, "no dead letter")
    assert freshet(world, "dlq", "list")[0]["reason"] == "far_future"
    time.sleep(max(0.0, (soon_ms - DAY_MS - now_ms()) / 1000 + 0.5))

    sent = [freshet(world, "dlq", "redrive", "--all")["n_sent"] for _ in range(2)]
    again = freshet(world, "dlq", "redrive", "--all", "--again")["n_sent"]

    assert (sent, again) == ([1, 0], 1)
    world.wait_drained()
    assert items_of(world, "ann") == ["i1", "early"]
    assert differences(world.states(), replay(world.log())) == []


def test_the_log_can_be_taken_out_and_looked_at(world, encoder, tmp_path):
    world.worker(encoder.address).start().wait_ready()
    for number in range(40):
        receipt = world.publish("ann", [click(f"i{number}", event_time_ms=now_ms() + number)])
    middle = receipt.get(10).offset - 20
    world.wait_drained()

    out = freshet(world, "export", str(tmp_path / "out"))

    assert (out["n_events"], out["n_users"], out["left_out"]) == (40, 1, {})
    assert len(load(str(tmp_path / "out")).events) == 40
    where = {"FRESHET_ENCODER": encoder.address, "FRESHET_RETRIEVAL": "127.0.0.1:9"}
    then = freshet(world, "user", "ann", "--at", str(middle), "--last", "1", expect=1, **where)
    assert (then["watermark"], then["n_events"]) == (middle, 20)
    assert [event["item_id"] for event in then["history"]] == ["i19"]
    assert len(then["interests"]) == 2
    assert "recommender" in then["problems"][0]
