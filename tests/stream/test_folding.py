from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from infra.attribution import N_PAIRS
from infra.kafka_topics import Topics, user_partition
from protos.actions import declared_actions
from protos.history import Shape
from protos.rec.v1.events_pb2 import Erasure, Event, EventBatch
from stream.catalogue import Catalogue
from stream.folding import Folder
from stream.metrics import WorkerMetrics
from stream.partition import Partition
from stream.store import N_KEPT_SEGMENTS, POSITION_KEY, head_key, segment_key
from stream.trending import Trending

HOME = user_partition("default", "ann", 4)
KEY = b"default/ann"


class NoDisk:
    def get(self, key):
        return None


class Notes:
    """Outbox and refreshes that write down what they were told."""

    def __init__(self):
        self.emitted, self.touched, self.forgotten = [], [], []

    def emit(self, records):
        self.emitted += records

    def touch(self, partition, user):
        self.touched.append(user.key)

    def forget(self, partition, user):
        self.forgotten.append(user.key)


class World:
    def __init__(self, number=HOME):
        self.notes = Notes()
        self.partition = Partition(number, NoDisk(), Shape(segment_size=2), n_cached=100)
        self.metrics = WorkerMetrics(CollectorRegistry())
        self.folder = Folder(
            Topics("rec"),
            4,
            actions=dict(declared_actions()),
            catalogue=Catalogue(4, lambda: None),
            codebook_version=lambda: 0,
            outbox=self.notes,
            refreshes=self.notes,
            metrics=self.metrics,
        )
        self.trending = Trending(number, lambda tenant, item_id: ())
        self.offset = 0
        self.headers = ()

    def apply(self, *events, **fields):
        value = EventBatch(**{"user_id": "ann"} | fields, events=events).SerializeToString()
        record = SimpleNamespace(
            topic="rec.events",
            partition=self.partition.number,
            offset=self.offset,
            timestamp=5_000,
            key=b"key",
            value=value,
            headers=self.headers,
        )
        self.offset += 1
        return self.folder.apply(self.partition, self.trending, record)


def event(event_id="", **fields):
    return Event(
        **{"event_id": event_id, "item_id": "i", "action": "click", "event_time_ms": 1} | fields
    )


@pytest.fixture
def world():
    return World()


def test_applied_event_moves_head_and_position_and_wakes_a_refresh(world):
    n_events = world.apply(event("a"), event("b"))

    changes = world.partition.take_changes()
    assert n_events == 2
    assert list(changes)[-2:] == [head_key(KEY), POSITION_KEY]
    assert world.notes.touched == [KEY]


def test_record_without_effect_still_moves_the_watermark_and_is_published(world):
    world.apply(event("a"))
    world.apply(event("a"))
    world.apply(event(action="stare"))

    head = world.partition.user(KEY).head
    assert (head.n_events, head.watermark) == (1, 2)
    assert world.notes.touched == [KEY] * 3


def test_closed_segment_is_stored_and_its_hashes_are_seen(world):
    world.apply(event("a"), event("b"), event("c"))

    (seen,) = world.notes.emitted
    assert (seen.topic, seen.key, seen.partition) == ("rec.seen", KEY + b"/0", HOME)
    assert world.partition.segment(KEY, 0) is not None


def test_segments_beyond_retention_are_dropped(world):
    for i in range(2 * (N_KEPT_SEGMENTS + 1)):
        world.apply(event(f"e{i}"))

    assert world.partition.segment(KEY, 0) is None
    assert world.partition.segment(KEY, 1) is not None
    assert world.partition.take_changes()[segment_key(KEY, 0)] is None


def test_erasure_deletes_all_there_is_and_tombstones_what_was_seen(world):
    for i in range(5):
        world.apply(event(f"e{i}"))
    world.notes.emitted.clear()

    world.apply(erase=Erasure())

    changes = world.partition.take_changes()
    assert changes[segment_key(KEY, 0)] is None
    assert changes[segment_key(KEY, 1)] is None
    assert world.partition.published(KEY) is None
    assert [(r.key, r.value) for r in world.notes.emitted] == [
        (KEY + b"/0", None),
        (KEY + b"/1", None),
    ]
    assert world.notes.forgotten == [KEY]
    assert world.partition.user(KEY).head.erased


def test_mis_keyed_record_is_sent_home_with_names_and_origin_and_not_folded():
    world = World(number=(HOME + 1) % 4)

    world.apply(event(), event("named"))

    (sent,) = world.notes.emitted
    batch = EventBatch.FromString(sent.value)
    assert (sent.topic, sent.key, sent.partition) == ("rec.events", KEY, HOME)
    assert [e.event_id for e in batch.events] == [f"{(HOME + 1) % 4}-0-0", "named"]
    assert (batch.origin.partition, batch.origin.offset) == ((HOME + 1) % 4, 0)
    assert batch.origin.timestamp_ms == 5_000
    assert not world.partition.holds(KEY)
    assert world.partition.next_offset == 1


def test_record_is_never_sent_home_twice():
    world = World(number=(HOME + 1) % 4)
    world.apply(event(), origin={"topic": "rec.events", "partition": 1, "offset": 1})

    (dead,) = world.notes.emitted
    assert dead.topic == "rec.events.dlq"
    assert dict(dead.headers)["reason"] == b"misplaced_again"


def test_dead_letter_says_why_from_where_and_when(world):
    world.apply(event("good"), event("bad", action="stare"))

    (dead,) = world.notes.emitted
    batch = EventBatch.FromString(dead.value)
    assert dead.key == b"key"
    assert [e.event_id for e in batch.events] == ["bad"]
    headers = {name: value.decode() for name, value in dead.headers}
    assert headers.pop("detail").startswith("action 'stare'")
    assert headers == {
        "reason": "undeclared_action",
        "source_topic": "rec.events",
        "source_partition": str(HOME),
        "source_offset": "0",
        "source_timestamp_ms": "5000",
        "event_index": "1",
    }


def test_only_what_applied_counts_as_trending(world):
    world.apply(event("a", item_id="x", action="purchase"))
    world.apply(event("a", item_id="x", action="purchase"), event("b", item_id="y"))
    world.apply(event("c", item_id="z", action="impression"))

    (published,) = world.trending.take_changed()
    assert {i.item_id: i.score for i in published.items} == {"x": 5.0, "y": 1.0}


def test_counts_reach_prometheus_a_step_at_a_time(world):
    world.apply(event("a"), event("a"), event(action="impression"), event(action="stare"))

    world.folder.report()

    def count(outcome):
        return world.metrics.events.labels(outcome)._value.get()

    outcomes = ("applied", "duplicate", "impression", "rejected")
    assert [count(outcome) for outcome in outcomes] == [1, 1, 1, 1]


def attributed(world):
    """Return what Prometheus has of recommended events, by (scenario, variant, action)."""
    world.folder.report()
    world.folder.report()  # what was handed over is not handed over again
    samples = world.metrics.attributed.collect()[0].samples
    return {
        tuple(one.labels[name] for name in ("scenario", "variant", "action")): one.value
        for one in samples
        if one.name.endswith("_total")
    }


def recommended(event_id="", **fields):
    said = {"recommendation_id": "r1", "scenario": "home", "variant": "b"}
    return event(event_id, **said | fields)


def test_events_that_a_recommendation_led_to_are_counted_by_its_scenario_and_variant(world):
    world.apply(recommended("a"), recommended("b", action="purchase"), event("c", scenario="home"))
    world.apply(recommended("d", scenario="", variant=""), recommended("e"))

    assert attributed(world) == {
        ("home", "b", "click"): 2,
        ("home", "b", "purchase"): 1,
        ("none", "none", "click"): 1,
    }


def test_a_recommended_event_counts_once_however_often_it_comes(world):
    world.apply(recommended("a"), recommended("a", variant="c"), recommended("x", action="stare"))
    world.apply(recommended("a"))
    world.offset = 0
    world.apply(recommended("new name, old record"))

    assert attributed(world) == {("home", "b", "click"): 1}


def test_recommended_impressions_count_once_a_record(world):
    seen = recommended(action="impression")
    world.apply(seen, seen, recommended(action="impression", item_id=""), recommended("a"))
    world.offset = 0
    world.apply(seen)

    assert attributed(world) == {("home", "b", "impression"): 2, ("home", "b", "click"): 1}


def test_events_from_before_an_erasure_are_not_counted(world):
    world.apply(erase=Erasure())
    world.apply(recommended("a"))

    assert attributed(world) == {}


def test_a_flood_of_scenarios_makes_no_more_than_the_bound_of_series(world):
    for number in range(300):
        world.apply(recommended(f"e{number}", scenario=f"forged{number}"))
    world.apply(recommended("long", scenario="x" * 200))

    found = attributed(world)
    assert len(found) == N_PAIRS + 1
    assert found["other", "other", "click"] == 301 - N_PAIRS
