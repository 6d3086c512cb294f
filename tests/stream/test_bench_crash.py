"""The accounts of `freshet bench crash`: what it calls lost, twice, unequal and stale."""

import struct
from collections import Counter

from protos.history import Head, Shape
from protos.keys import event_hash
from protos.rec.v1.events_pb2 import Erasure, Event, EventBatch
from protos.rec.v1.interests_pb2 import SeenSegment
from stream.bench.acknowledged import UNDECLARED, Acknowledged, EventMaker
from stream.bench.faults import Fault, FaultRunner, Toll
from stream.bench.histories import History
from stream.bench.oracle import OracleUser, java_partition
from stream.bench.positions import Positions
from stream.bench.verdict import Account, Verdict, account, read_log, stale_users, unequal_seen
from stream.bench.world import N_PARTITIONS, OracleRecord

ADA = ("default", "ada")


def record(user_id, *event_ids, offset=0, misplaced=False, action="click", **fields):
    events = [Event(event_id=e, item_id="i", action=action, event_time_ms=9) for e in event_ids]
    value = EventBatch(user_id=user_id, events=events, **fields).SerializeToString()
    home = java_partition(f"default/{user_id}", N_PARTITIONS)
    return OracleRecord((home + misplaced) % N_PARTITIONS, offset, 99, value)


def history(*event_ids):
    head = Head.empty(Shape())
    head.n_events = len(event_ids)
    head.event_hashes.extend(map(event_hash, event_ids))
    return History(head, [], [], [], [], [])


def test_history_with_each_name_of_the_log_once_owes_nothing():
    logged = read_log([record("ada", "a", "b"), record("ada", "b", offset=1)])

    found = account({("ada", "a"), ("ada", "b")}, logged, {ADA: history("a", "b")})

    assert found == Account(lost=0, twice=0)


def test_acknowledged_event_that_the_log_lacks_is_lost():
    logged = read_log([record("ada", "a")])

    found = account({("ada", "a"), ("ada", "b"), ("bob", "c")}, logged, {ADA: history("a")})

    assert found == Account(lost=2, twice=0)


def test_event_of_the_log_that_its_history_lacks_is_lost_acknowledged_or_not():
    logged = read_log([record("ada", "a", "b"), record("bob", "c")])

    assert account(set(), logged, {ADA: history("a")}) == Account(lost=2, twice=0)


def test_surplus_of_a_history_and_a_repeated_name_are_twice():
    logged = read_log([record("ada", "a", "b"), record("bob", "c")])
    histories = {ADA: history("a", "b", "x"), ("default", "bob"): history("c", "c")}

    # one too many of ada; one too many of bob, and his name stands twice
    assert account(set(), logged, histories) == Account(lost=0, twice=1 + 1 + 1)


def test_misplaced_record_counts_once_with_its_copy_at_home():
    logged = read_log([record("ada", "a", misplaced=True), record("ada", "a", offset=1)])

    assert logged.names["ada"] == {"a"}
    assert account(set(), logged, {}) == Account(lost=1, twice=0)


def test_erased_user_is_left_to_the_oracle():
    logged = read_log([record("ada", "a"), record("ada", offset=1, erase=Erasure())])

    assert account({("ada", "a")}, logged, {}) == Account(lost=0, twice=0)


def test_undeclared_event_is_a_dead_letter_where_its_user_lives_and_no_name():
    at_home = record("ada", "a", offset=3, action=UNDECLARED)
    logged = read_log([record("ada", "a", action=UNDECLARED, misplaced=True), at_home])

    assert logged.names["ada"] == frozenset()
    assert logged.dead == {(at_home.partition, 3, 0)}


def test_user_whose_newest_state_lacks_his_newest_record_is_stale():
    oracle = {ADA: OracleUser(watermark=7), ("default", "bob"): OracleUser(watermark=5)}

    (found,) = stale_users({ADA: 6, ("default", "bob"): 5}, oracle)

    assert (found.user, found.found, found.expected) == (ADA, 6, 7)


def test_seen_segments_are_compared_both_ways():
    hashes = list(range(130))
    right = struct.pack("<128I", *hashes[:128])

    def seen(index, item_hashes):
        segment = SeenSegment(tenant="default", user_id="ada", segment_index=index)
        segment.item_hashes = item_hashes
        return {b"k%d" % index: segment.SerializeToString()}

    oracle = {ADA: OracleUser(hashes=hashes)}

    assert unequal_seen(seen(0, right), oracle) == []
    assert len(unequal_seen({b"k0": None}, oracle)) == 1
    assert len(unequal_seen(seen(0, right[4:] + right[:4]), oracle)) == 1
    assert len(unequal_seen(seen(0, right) | seen(1, right), oracle)) == 1


def test_verdict_is_clean_only_without_any_finding():
    assert Verdict(Account(0, 0)).is_clean
    assert not Verdict(Account(1, 0)).is_clean
    assert not Verdict(Account(0, 1)).is_clean
    assert not Verdict(Account(0, 0), lost_letters=[(0, 1, 2)]).is_clean


def test_dead_letters_are_not_among_the_acknowledged():
    made = EventMaker("s", ["i1"], seed=1).make(50, dead_share=0.5)
    acknowledged = Acknowledged()

    acknowledged.add("ada", made)

    actions = Counter(event.action == UNDECLARED for event in made)
    assert 0 < actions[True] < 50
    assert len(acknowledged.names()) == actions[False]


class Scripted:
    """Stands for crew, parts and watch: Kafka is away for one look, then commits go on."""

    def __init__(self):
        self.log, self.n_looks = [], 0

    def look(self):
        self.n_looks += 1
        if self.n_looks == 1:
            return None
        ends = {0: 10 * self.n_looks}
        return Positions(ends=ends, committed={0: 10 * self.n_looks - 2})

    def tend(self):
        self.log.append("tend")

    def is_ready(self):
        return True

    def are_back(self):
        return True

    def doing(self, text): ...

    def done(self, text): ...


def test_fault_is_struck_then_mended_and_its_recovery_measured(monkeypatch):
    monkeypatch.setattr("stream.bench.faults._LOOK_S", 0.0)
    stage, toll = Scripted(), Toll()
    runner = FaultRunner(stage, stage, stage, None, records_per_s=5.0, narrator=stage)
    fault = Fault("x", 2, lambda: stage.log.append("strike"), lambda: stage.log.append("mend"))

    runner.run(iter([fault]), toll)

    acts = [entry for entry in stage.log if entry != "tend"]
    assert acts == ["strike", "mend"]
    assert (toll.n_kills, toll.kills, toll.uncommitted) == (2, {"x": 2}, [2])
    assert toll.medians().keys() == {"x"}


def test_what_never_recovers_ends_the_faults(monkeypatch):
    monkeypatch.setattr("stream.bench.faults._LOOK_S", 0.0)
    monkeypatch.setattr("stream.bench.faults.RECOVERY_S", 0.0)
    stage, toll = Scripted(), Toll()
    runner = FaultRunner(stage, stage, stage, None, records_per_s=1e9, narrator=stage)

    runner.run(iter([Fault("first", 1, stage.tend), Fault("second", 1, stage.tend)]), toll)

    assert toll.not_recovered.startswith("first")


def test_partition_that_only_stands_where_it_was_has_not_passed():
    now = Positions(ends={0: 5, 1: 9}, committed={0: 5, 1: 7})

    assert now.lag == 2
    assert not now.has_passed({0: 5, 1: 6})
    assert now.has_passed({0: 4, 1: 6})
