"""SIGKILL of the real worker in the middle of 20,000 events; then every user equals the oracle."""

import shutil

import psutil
import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError
from rocksdict import Options, Rdict

from infra.kafka_broker import await_broker
from infra.stack.launcher import Silent, running_stack
from protos.rec.v1.events_pb2 import Event
from stream.bench.histories import decode_histories, differences
from stream.bench.loads import N_EVENTS, NOW_MS, SMALL_CHECKPOINTS, Load
from stream.bench.oracle import replay
from stream.bench.stub_encoder import StubEncoder
from stream.bench.worker_process import wait_for
from stream.bench.world import N_PARTITIONS, StreamWorld
from tests.integration.listener import listener

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def encoder():
    encoder = StubEncoder(needs_blocks=True).start()
    yield encoder
    encoder.stop()


def kill_in_the_middle(world, worker, at_least):
    """SIGKILL once `at_least` records are committed; check that the kill can have hurt."""
    before = wait_for_checkpoint(world, at_least)
    folded = worker.metrics()['records_total{outcome="applied"}']
    worker.kill()
    world.producer.flush()
    committed, ends = world.committed(), world.ends()
    assert sum(committed.values()) > before, "no checkpoint happened before the kill"
    assert sum(ends.values()) > sum(committed.values()), "nothing was unacknowledged at the kill"
    assert folded > 0


def wait_for_checkpoint(world, at_least):
    """Wait until so many more records are committed; return how many were before."""
    before = sum(world.committed().values())
    wait_for(lambda: sum(world.committed().values()) >= before + at_least, "no checkpoint")
    return before


@pytest.mark.parametrize("disk", ["kept", "wiped"])
def test_killed_worker_loses_nothing_and_counts_nothing_twice(world, encoder, disk):
    worker = world.worker(encoder.address, **SMALL_CHECKPOINTS).start().wait_ready()
    load = Load(world, per_s=3_000).start()
    for _ in range(2):
        kill_in_the_middle(world, worker, at_least=1_500)
        if disk == "wiped":
            shutil.rmtree(worker.folder)
        worker.start().wait_ready()
    load.join()
    world.wait_drained()
    assert worker.stop() == 0

    oracle = replay(world.log())
    assert sum(len(user.hashes) for user in oracle.values()) > 0.9 * N_EVENTS
    assert differences(world.states(), oracle) == []
    assert differences(decode_histories(rocksdb_of(worker)), oracle) == []


def rocksdb_of(worker):
    """Read the stopped worker's own disk."""
    newest = {}
    for number in range(N_PARTITIONS):
        (path,) = worker.folder.glob(f"**/histories-{number}.db")
        db = Rdict(str(path), options=Options(raw_mode=True))
        newest |= {key: value for key, value in db.items() if not key.startswith(b"__faust")}
        db.close()
    return newest


def test_log_that_is_delivered_again_from_its_beginning_counts_nothing_twice(world, encoder):
    """As after a kill between changelog and commit, but for every record there is."""
    worker = world.worker(encoder.address, session_timeout_s=6, **SMALL_CHECKPOINTS)
    worker.start().wait_ready()
    load = Load(world, per_s=20_000).start()
    load.join()
    world.wait_drained()
    assert worker.stop() == 0
    world.rewind()

    worker.start().wait_ready()
    world.publish("u1", [Event(item_id="i1", action="click", event_time_ms=NOW_MS)]).get(9)
    world.wait_drained()

    assert worker.metrics()['records_total{outcome="redelivered"}'] > 0.5 * N_EVENTS
    assert differences(world.states(), replay(world.log())) == []


def test_workers_that_come_and_go_leave_every_history_exact(world, encoder):
    first = world.worker(encoder.address, "first", **SMALL_CHECKPOINTS).start().wait_ready()
    load = Load(world, per_s=1_500).start()
    second = world.worker(encoder.address, "second", **SMALL_CHECKPOINTS).start().wait_ready()
    wait_for(lambda: second.metrics().get('records_total{outcome="applied"}', 0) > 300, "no share")
    second.kill()  # the first one takes over after the session timeout
    wait_for(lambda: first.metrics()['events_total{outcome="applied"}'] > 6_000, "no progress")
    second.start().wait_ready()
    assert first.stop() == 0  # and the second one takes over at once
    load.join()
    world.wait_drained()
    assert second.stop() == 0

    assert differences(world.states(), replay(world.log())) == []


def test_gap_in_the_log_is_read_again_then_accepted_and_counted(world, encoder, kafka_bootstrap):
    worker = world.worker(encoder.address).start().wait_ready()
    home = world.publish("ann", [Event(item_id="i0", action="click", event_time_ms=NOW_MS)]).get(9)
    world.wait_drained()
    assert worker.stop() == 0
    for i in range(1, 10):
        world.publish("ann", [Event(item_id=f"i{i}", action="click", event_time_ms=NOW_MS + i)])
    world.producer.flush()
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.delete_records({TopicPartition(world.topics.events, home.partition): 5})
    admin.close()

    worker.start().wait_ready()
    world.wait_drained()

    state = world.states()["default", "ann"]
    assert [recent.item_id for recent in state.head.recent] == [
        "i0",
        *(f"i{i}" for i in range(5, 10)),
    ]
    assert worker.metrics()["rereads_total"] == 1
    assert worker.metrics()["lost_offsets_total"] == 4


def test_broker_that_is_killed_and_comes_back_loses_nothing(encoder, tmp_path):
    with running_stack(tmp_path / "kafka", frozenset({"kafka"}), Silent()) as endpoints:
        world = StreamWorld(endpoints.kafka_bootstrap, tmp_path)
        try:
            worker = world.worker(encoder.address, **SMALL_CHECKPOINTS).start().wait_ready()
            load = Load(world, per_s=1_500).start()
            for _ in range(2):
                wait_for_checkpoint(world, 1_000)
                kill_listener(endpoints.kafka_bootstrap)
                wait_for(lambda: has_coordinator(world), "the group has no coordinator", 60)
            load.join()
            world.wait_drained()
            assert worker.stop() == 0

            oracle = replay(world.log())
            assert sum(len(user.hashes) for user in oracle.values()) > 0.9 * N_EVENTS
            assert differences(world.states(), oracle) == []
        finally:
            world.close()


def kill_listener(address):
    """SIGKILL of the process that listens there; returns when the stack has started it again."""
    broker = listener(address)
    assert broker is not None
    broker.kill()
    psutil.wait_procs([broker], timeout=10)
    await_broker(address, 60)


def has_coordinator(world):
    try:
        return bool(world.committed())
    except KafkaError:
        return False
