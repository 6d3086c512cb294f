"""A paused worker that wakes up after its partitions went to another one (a zombie)."""

import signal
import uuid

import pytest
from kafka import KafkaAdminClient

from stream.bench.histories import differences
from stream.bench.loads import SMALL_CHECKPOINTS, Load
from stream.bench.oracle import replay
from stream.bench.stub_encoder import StubEncoder
from stream.bench.worker_process import wait_for
from stream.changelog import Fenced, KafkaChangelog

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def encoder():
    encoder = StubEncoder().start()
    yield encoder
    encoder.stop()


@pytest.fixture
def topic(kafka_bootstrap):
    name = f"changelog-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.create_topics(
        {name: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True
    )
    admin.close()
    return name


@pytest.fixture
async def owners(kafka_bootstrap, topic):
    made = [KafkaChangelog(kafka_bootstrap, topic, name) for name in ("old", "new")]
    yield made
    for changelog in made:
        await changelog.close()


async def test_after_a_claim_nothing_of_the_owner_before_arrives(world, topic, owners):
    old, new = owners
    await old.claim({0, 1})
    await old.append(0, {b"h1": b"first", b"h2": b"first"})

    await new.claim({0})
    with pytest.raises(Fenced, match="another owner"):
        await old.append(0, {b"h1": b"stale"})
    await new.append(0, {b"h2": b"second"})
    await old.append(1, {b"h3": b"mine"})

    kept = {(record.partition, record.key): record.value for record in world.read(topic)}
    assert kept[0, b"h1"] == b"first"
    assert kept[0, b"h2"] == b"second"
    assert kept[1, b"h3"] == b"mine"
    assert kept[0, b"c"] == b"new"


async def test_an_owner_that_claims_again_writes_on(topic, owners):
    old, new = owners
    await old.claim({0})
    await new.claim({0})
    await old.claim({0, 1})

    assert await old.append(0, {b"h1": b"again"}) == 3
    with pytest.raises(Fenced):
        await new.append(0, {b"h1": b"stale"})


def test_a_worker_that_sleeps_past_its_session_ends_and_harms_nothing(world, encoder):
    settings = SMALL_CHECKPOINTS | {"session_timeout_s": 6}
    sleeper = world.worker(encoder.address, "sleeper", **settings).start().wait_ready()
    other = world.worker(encoder.address, "other", **settings).start().wait_ready()
    load = Load(world, per_s=1_000).start()
    wait_for(lambda: sleeper.metrics().get("checkpointed_events_total", 0) > 1_000, "no share")

    sleeper.signal(signal.SIGSTOP)
    applied = 'events_total{outcome="applied"}'
    before = other.metrics().get(applied, 0)
    wait_for(lambda: other.metrics().get(applied, 0) > before + 8_000, "nobody took over")
    sleeper.signal(signal.SIGCONT)

    assert sleeper.wait(30) == 70
    assert "stood still" in sleeper.log()
    sleeper.start().wait_ready()
    load.join()
    world.wait_drained()
    assert sleeper.stop() == 0
    assert other.stop() == 0
    assert differences(world.states(), replay(world.log())) == []
