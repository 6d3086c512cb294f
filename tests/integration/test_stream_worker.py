import random
import time

import pytest

from protos.keys import compose_key
from protos.rec.v1.events_pb2 import Erasure, Event, EventBatch
from protos.rec.v1.interests_pb2 import SeenSegment, TrendingList, UserInterests
from protos.rec.v1.items_pb2 import Item, ItemVector
from stream.bench.histories import differences
from stream.bench.loads import N_EVENTS, Load
from stream.bench.oracle import java_partition, replay
from stream.bench.stub_encoder import StubEncoder
from stream.bench.worker_process import wait_for
from stream.bench.world import N_PARTITIONS

pytestmark = pytest.mark.integration

NOW_MS = int(time.time() * 1000)


@pytest.fixture
def encoder():
    encoder = StubEncoder(needs_blocks=True, needs_items=True).start()
    yield encoder
    encoder.stop()


def event(item_id="i1", *, event_id="", action="click", at_ms=NOW_MS):
    return Event(event_id=event_id, item_id=item_id, action=action, event_time_ms=at_ms)


def publish_items(world, n_items):
    for i in range(n_items):
        item = Item(tenant="default", item_id=f"i{i}", title=f"item {i}", categories=[f"c{i % 2}"])
        key = compose_key("default", item.item_id)
        world.producer.send(world.topics.items, key=key, value=item.SerializeToString())
    world.producer.flush()


def publish_mixed(world, n_events, *, seed=0, n_users=60):
    """Write all that a log may hold: batches, retries, late events, erasures, bad events."""
    rng = random.Random(seed)
    sent = 0
    while sent < n_events:
        user = f"u{int(rng.paretovariate(0.7)) % n_users}"
        n = rng.choice((1, 1, 1, 3, 20))
        events = []
        for _ in range(n):
            named = f"{seed}-{user}-{rng.randrange(10_000)}" if rng.random() < 0.9 else ""
            actions = ("click", "like", "purchase", "dismiss", "impression", "undeclared")
            action = rng.choices(actions, (50, 20, 10, 5, 5, 1))[0]
            at_ms = NOW_MS + sent * 1000 - rng.choice((0, 0, 0, 0, 5_000_000))
            events.append(
                event(f"i{rng.randrange(50)}", event_id=named, action=action, at_ms=at_ms)
            )
        sent += n
        world.publish(user, events)
        if rng.random() < 0.1:
            world.publish(user, events)  # a client's retry
        if rng.random() < 0.002:
            world.publish(user, [], erase=Erasure(reason="asked for"))
    world.producer.flush()


def test_histories_through_kafka_equal_a_plain_loop_over_the_log(world, encoder):
    publish_items(world, 50)
    publish_mixed(world, 8_000)

    worker = world.worker(encoder.address).start().wait_ready()
    world.wait_drained()
    assert worker.stop() == 0

    oracle = replay(world.log())
    assert max(len(user.hashes) for user in oracle.values()) > 3 * 128, "no segment was closed"
    assert differences(world.states(), oracle) == []
    assert seen_segments(world) == {
        (user_id, index): user.hashes[128 * index : 128 * (index + 1)]
        for (_, user_id), user in oracle.items()
        for index in range(len(user.hashes) // 128)
    }


def seen_segments(world):
    newest = {record.key: record.value for record in world.read(world.topics.seen)}
    seen = [SeenSegment.FromString(value) for value in newest.values() if value is not None]
    return {(s.user_id, s.segment_index): list(memoryview(s.item_hashes).cast("I")) for s in seen}


def test_every_receipt_comes_true_and_the_newest_state_is_complete(world, encoder):
    publish_items(world, 50)
    world.worker(encoder.address).start().wait_ready()
    publish_mixed(world, 2_000, seed=1)
    world.wait_drained()
    oracle = replay(world.log())

    def newest():
        records = world.read(world.topics.interests)
        states = [UserInterests.FromString(record.value) for record in records]
        return {state.user_id: state for state in states}

    wait_for(
        lambda: (
            {u: s.encoded_offset for u, s in newest().items()}
            == {user_id: user.watermark for (_, user_id), user in oracle.items()}
        ),
        "some user's newest state does not include his newest record",
    )
    for (_, user_id), user in oracle.items():
        state = newest()[user_id]
        assert state.n_events == len(user.hashes)
        assert state.erased == user.erased
        assert [recent.item_id for recent in state.recent] == [i for i, *_ in user.items[-32:]]
        open_hashes = user.hashes[len(user.hashes) // 128 * 128 :]
        assert list(memoryview(state.open_segment_hashes).cast("I")) == open_hashes
    offsets = {}
    for record in world.read(world.topics.interests):
        state = UserInterests.FromString(record.value)
        assert state.encoded_offset >= offsets.get(state.user_id, -1), "a state went back"
        offsets[state.user_id] = state.encoded_offset


def test_bad_records_become_dead_letters_and_nothing_stops(world, encoder):
    worker = world.worker(encoder.address).start().wait_ready()
    home = java_partition("default/ann", N_PARTITIONS)
    topic, send = world.topics.events, world.producer.send
    send(topic, key=b"default/ann", value=b"\xff\xff garbage", partition=home)
    send(topic, key=b"default/ann", value=None, partition=home)
    world.publish("", [event()], partition=home)
    world.publish("ann", [event()], tenant="NOT A TENANT", partition=home)
    future_ms = NOW_MS + 25 * 3_600_000
    mixed = [event("good-1"), event(""), event("x" * 257), event(action="undeclared")]
    mixed += [event(at_ms=future_ms), event(at_ms=0), event("good-2")]
    receipt = world.publish("ann", mixed).get(10)
    world.publish("ann", [event()], erase=Erasure()).get(10)

    world.wait_drained()

    letters = [dict(record.headers) for record in world.read(world.topics.dead_letters)]
    reasons = sorted(letter["reason"].decode() for letter in letters)
    assert reasons == sorted(
        [
            "garbage",
            "empty_value",
            "missing_user_id",
            "bad_tenant",
            "missing_item_id",
            "item_id_too_long",
            "undeclared_action",
            "far_future",
            "missing_event_time",
            "erase_with_events",
        ]
    )
    letter = next(one for one in letters if one["reason"] == b"far_future")
    assert letter["source_topic"].decode() == topic
    assert (int(letter["source_partition"]), int(letter["source_offset"])) == (
        receipt.partition,
        receipt.offset,
    )
    assert int(letter["event_index"]) == 4
    assert int(letter["source_timestamp_ms"]) >= NOW_MS
    states = world.states()
    assert [r.item_id for r in states["default", "ann"].head.recent] == ["good-1", "good-2"]
    assert worker.metrics()['dead_letters_total{reason="garbage"}'] == 1
    assert differences(states, replay(world.log())) == []


def test_dead_letter_of_one_event_holds_that_event_alone(world, encoder):
    world.worker(encoder.address).start().wait_ready()
    world.publish("ann", [event("good"), event("bad", action="undeclared", event_id="e2")])

    world.wait_drained()

    (record,) = world.read(world.topics.dead_letters)
    assert record.key == b"default/ann"
    batch = EventBatch.FromString(record.value)
    assert (batch.user_id, [e.event_id for e in batch.events]) == ("ann", ["e2"])


def test_mis_keyed_records_find_their_partition_and_count_once(world, encoder):
    home = java_partition("default/ann", N_PARTITIONS)
    wrong = (home + 1) % N_PARTITIONS
    for i in range(20):
        world.publish("ann", [event(f"i{i}")], partition=wrong)
    worker = world.worker(encoder.address).start().wait_ready()

    world.wait_drained()
    wait_for(lambda: len(world.log()) == 40, "not all were published again")
    world.wait_drained()

    state = world.states()["default", "ann"]
    assert [r.item_id for r in state.head.recent] == [f"i{i}" for i in range(20)]
    assert worker.metrics()['records_total{outcome="republished"}'] == 20
    again = [r for r in world.log() if r.partition == home]
    origins = [EventBatch.FromString(r.value) for r in again]
    assert [b.origin.offset for b in origins] == list(range(20))
    assert {b.origin.partition for b in origins} == {wrong}
    assert [b.events[0].event_id for b in origins] == [f"{wrong}-{i}-0" for i in range(20)]


def test_encoder_down_loses_nothing_and_its_return_drains_the_backlog(world, encoder):
    publish_items(world, 20)
    worker = world.worker(encoder.address).start().wait_ready()
    world.wait_interests("bo", world.publish("bo", [event("i1")]).get(10).offset)
    port = encoder.port
    encoder.stop()
    receipts = {f"u{i}": world.publish(f"u{i}", [event("i2")]).get(10) for i in range(40)}
    world.wait_drained()  # the fold does not wait for the encoder
    bad = world.publish("nobody", [event(action="undeclared")]).get(10)
    state = world.wait_interests("nobody", bad.offset, timeout_s=20)
    assert not state.HasField("interests"), "a receipt without effect needs no encoder"
    wait_for(lambda: worker.metrics().get("waiting_users", 0) > 0, "nobody waits")

    encoder.needs_items = False
    again = StubEncoder(port=port).start()
    try:
        for user_id, receipt in receipts.items():
            state = world.wait_interests(user_id, receipt.offset)
            assert state.interests.model_version == "m-1"
    finally:
        again.stop()
        encoder.start()  # for the fixture to stop


@pytest.mark.slow
def test_a_minute_without_the_encoder_holds_up_no_event_and_the_backlog_drains(world, encoder):
    worker = world.worker(encoder.address).start().wait_ready()
    world.wait_interests("bo", world.publish("bo", [event("i1")]).get(10).offset)
    port = encoder.port
    encoder.stop()
    outage_s = 60
    load = Load(world, per_s=N_EVENTS / outage_s).start()
    for _ in range(5):
        time.sleep(outage_s / 5)
        n_due = 0.9 * load.n_sent  # some of it is refused
        wait_for(lambda n=n_due: folded(worker) >= n, "the fold waits for the encoder", 20)
    load.join()
    world.wait_drained()
    oracle = replay(world.log())
    with_events = [user for user, history in oracle.items() if history.hashes]
    n_waiting = len(with_events) - 1  # all but bo, once each
    wait_for(lambda: worker.metrics()["waiting_users"] == n_waiting, "the lag is not visible")

    again = StubEncoder(port=port).start()
    try:
        wait_for(lambda: worker.metrics()["waiting_users"] == 0, "the backlog does not drain")
        published = world.read(world.topics.interests)
        states = [UserInterests.FromString(record.value) for record in published]
        newest = {(state.tenant, state.user_id): state for state in states}
        for user in with_events:
            assert newest[user].encoded_offset == oracle[user].watermark
            assert newest[user].n_events == len(oracle[user].hashes)
        assert worker.stop() == 0
        assert differences(world.states(), oracle) == []
    finally:
        again.stop()
        encoder.start()  # for the fixture to stop


def folded(worker):
    return worker.metrics().get('events_total{outcome="applied"}', 0)


def test_users_who_are_owed_a_refresh_get_it_after_a_restart_or_with_a_new_model(world, encoder):
    worker = world.worker(encoder.address).start().wait_ready()
    receipt = world.publish("ann", [event("i1")]).get(10)
    world.wait_interests("ann", receipt.offset)
    assert worker.stop() == 0
    late = world.publish("ann", [event("i2")]).get(10)

    encoder.model_version, encoder.model_sequence = "m-2", 2
    worker.start().wait_ready()

    assert world.wait_interests("ann", late.offset).interests.model_version == "m-2"
    encoder.model_version, encoder.model_sequence = "m-3", 3

    def is_renewed():
        states = [UserInterests.FromString(r.value) for r in world.read(world.topics.interests)]
        return states[-1].interests.model_version == "m-3"

    wait_for(is_renewed, "the new model reached nobody", 30)


def test_items_are_encoded_once_and_again_with_a_new_model(world, encoder):
    worker = world.worker(encoder.address).start().wait_ready()
    publish_items(world, 30)
    nameless = Item(tenant="default", item_id="nameless")
    key = compose_key("default", "nameless")
    world.producer.send(world.topics.items, key=key, value=nameless.SerializeToString())
    world.producer.flush()

    def vectors():
        newest = {record.key: record.value for record in world.read(world.topics.item_vectors)}
        return {key: ItemVector.FromString(value) for key, value in newest.items() if value}

    wait_for(lambda: len(vectors()) == 30, "not all items were encoded")
    codes = {key: vector.codes[0].codes for key, vector in vectors().items()}
    wait_for(lambda: worker.metrics().get('items_total{outcome="no_text"}') == 1, "not counted")
    encoder.model_version, encoder.model_sequence = "m-2", 2

    def renewed():
        return [[e.model_version for e in v.embeddings] for v in vectors().values()]

    wait_for(lambda: renewed() == [["m-1", "m-2"]] * 30, "not all were encoded again", 30)
    assert {key: vector.codes[0].codes for key, vector in vectors().items()} == codes

    world.producer.send(world.topics.items, key=compose_key("default", "i0"), value=None)
    world.producer.flush()
    wait_for(lambda: len(vectors()) == 29, "the deletion did not pass through")


def test_events_on_items_that_come_later_get_their_codes(world, encoder):
    worker = world.worker(encoder.address).start().wait_ready()
    events = [event(f"i{i % 30}", event_id=f"a{i}") for i in range(200)]
    world.wait_interests("ann", world.publish("ann", events).get(10).offset)
    world.wait_drained()
    assert not any(codes_found(world))

    publish_items(world, 30)
    wait_for(lambda: worker.metrics().get("catalogue_items") == 30, "no catalogue")
    world.wait_interests("ann", world.publish("ann", [event("i1")]).get(10).offset)
    wait_for(lambda: all(codes_found(world)), "codes were not looked up or not written back", 20)

    texts = {f"item {i % 30}" for i in range(200)}
    assert set(encoder.encoded_texts) == texts


def codes_found(world):
    """Return for each of the user's events whether it has codes."""
    return world.states()["default", "ann"].coded


def test_trending_counts_and_is_taken_up_after_a_restart(world, encoder):
    publish_items(world, 10)
    worker = world.worker(encoder.address, trending_interval_s=0.3).start().wait_ready()
    wait_for(lambda: worker.metrics().get("catalogue_items") == 10, "no catalogue")
    for i in range(12):
        world.publish("ann", [event("i1" if i % 3 else "i2", action="purchase")])

    def lists():
        newest = {record.key: record.value for record in world.read(world.topics.trending)}
        lists = [TrendingList.FromString(value) for value in newest.values()]
        return {one.category: [(i.item_id, round(i.score)) for i in one.items] for one in lists}

    wait_for(lambda: lists().get("") == [("i1", 40), ("i2", 20)], "not published", 20)
    assert lists()["c1"] == [("i1", 40)]
    assert worker.stop() == 0
    worker.start().wait_ready()
    world.publish("ann", [event("i2", action="purchase")])

    wait_for(lambda: lists()[""] == [("i1", 40), ("i2", 25)], "not taken up", 20)


def test_erasure_removes_segments_and_leaves_a_marker_that_late_states_cannot_pass(world, encoder):
    worker = world.worker(encoder.address).start().wait_ready()
    world.publish("ann", [event(f"i{i}", event_id=f"e{i}") for i in range(300)])
    receipt = world.publish("ann", [], erase=Erasure(reason="asked for")).get(10)

    state = world.wait_interests("ann", receipt.offset)
    world.wait_drained()
    assert worker.stop() == 0

    assert state.erased
    assert not state.recent
    assert seen_segments(world) == {}
    found = world.states()["default", "ann"]
    assert found.head.erased
    assert found.hashes == []
    assert UserInterests.FromString(world.read(world.topics.interests)[-1].value).erased
