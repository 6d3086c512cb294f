"""Redeliveries, crashes between any two steps of a checkpoint, wiped disks, closing segments, items
that become known: in any order they leave the histories that a plain loop over the log leaves."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client import CollectorRegistry

from infra.kafka_topics import Topics
from protos.actions import declared_actions
from protos.history import Shape
from protos.keys import compose_key, item_hash, short_item_hash
from protos.rec.v1.events_pb2 import Erasure, EventBatch
from protos.rec.v1.interests_pb2 import Tier
from protos.rec.v1.items_pb2 import Item, ItemCodes, ItemVector
from stream.bench.histories import decode_histories, differences
from stream.bench.oracle import replay
from stream.catalogue import Catalogue
from stream.encoder_client import Model
from stream.folding import Folder
from stream.metrics import WorkerMetrics
from stream.partition import Arrival, Partition
from stream.states import cut_state
from stream.trending import Trending
from tests.stream.log_world import N_PARTITIONS, Log, batch, event

SHAPE = Shape(segment_size=4, n_levels=2, recent_size=32)
MODEL = Model("m-1", f"{7:016x}", 7, 1, n_blocks=2, block_depth=1)
USERS = ["ann", "cem"]  # of one partition
HOME = 1
ITEMS = ["a", "b", "c"]
CODES = {short_item_hash("default", item): item.encode() * 2 for item in ITEMS}
METRICS = WorkerMetrics(CollectorRegistry())


class Disk:
    """RocksDB as far as a partition sees it: what was written, and the changelog it reaches."""

    def __init__(self):
        self.stored, self.changelog_offset = {}, -1

    def get(self, key):
        return self.stored.get(key)

    def items(self, prefix):
        return iter(sorted(one for one in self.stored.items() if one[0].startswith(prefix)))

    def write(self, changes, changelog_offset):
        for key, value in changes.items():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        self.changelog_offset = changelog_offset


class Silent:
    """An outbox and refreshes that nobody listens to."""

    def emit(self, records):
        pass

    def touch(self, partition, user):
        pass

    def forget(self, partition, user):
        pass


class Interleaving(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.log, self.catalogue = Log(), Catalogue(SHAPE.n_levels, lambda: None)
        self.n_known = 0
        self.changelog, self.disk, self.committed = [], Disk(), 0
        self.folder = Folder(
            Topics(),
            N_PARTITIONS,
            actions=dict(declared_actions()),
            catalogue=self.catalogue,
            codebook_version=lambda: MODEL.codebook,
            outbox=Silent(),
            refreshes=Silent(),
            metrics=METRICS,
        )
        self.start()

    def start(self):
        """A worker that begins: recovery from the changelog, then events from what is committed."""
        beyond = self.changelog[self.disk.changelog_offset + 1 :]
        self.disk.write(dict(beyond), len(self.changelog) - 1)
        self.partition = Partition(HOME, self.disk, SHAPE, n_cached=1)
        self.fetched = self.committed

    @property
    def records(self):
        return self.log.records[HOME]

    # -- what may happen, in any order ---------------------------------------------------------

    @rule(
        user=st.sampled_from(USERS),
        items=st.lists(st.sampled_from(ITEMS), min_size=1, max_size=6),
        event_id=st.sampled_from(["", "1", "2", "3"]),
        at_ms=st.integers(1, 20_000),
        action=st.sampled_from(["click", "like", "impression", "peek"]),
    )
    def publish(self, user, items, event_id, at_ms, action):
        events = [event(item, event_time_ms=at_ms, action=action) for item in items]
        events[0].event_id = event_id
        self.log.write(batch(*events, user=user), timestamp=1_000 * (1 + len(self.records)))

    @rule(user=st.sampled_from(USERS))
    def erase(self, user):
        erasure = EventBatch(user_id=user, erase=Erasure())
        self.log.write(erasure, timestamp=1_000 * (1 + len(self.records)))

    @rule(n=st.integers(1, 5))
    def consume(self, n):
        for record in self.records[self.fetched : self.fetched + n]:
            self.fetched = record.offset + 1
            arrival = self.partition.arrive(record.offset)
            assert arrival is not Arrival.REREAD
            if arrival is Arrival.APPLY:
                self.folder.apply(
                    self.partition, Trending(HOME, lambda tenant, item_id: ()), record
                )
                self.partition.advance(record.offset)

    @rule()
    def redeliver(self):
        self.fetched = self.committed

    @rule()
    def learn(self):
        """The next item becomes known."""
        if self.n_known < len(ITEMS):
            name = ITEMS[self.n_known]
            codes = ItemCodes(codebook_version=MODEL.codebook_version, codes=name.encode() * 2)
            vector = ItemVector(
                item=Item(tenant="default", item_id=name),
                item_hash=item_hash("default", name),
                codes=[codes],
            )
            key = compose_key("default", name)
            self.catalogue.apply(key, vector.SerializeToString(), 0, self.n_known)
            self.n_known += 1

    @rule(user=st.sampled_from(USERS))
    def cut(self, user):
        """A refresh reads the state, and looks up codes that are missing."""
        found = self.partition.user(compose_key("default", user))
        if found.head.n_events:
            cut_state(self.partition, found, MODEL, self.catalogue, Tier.TIER_REFINED)

    @rule(reached=st.integers(0, 3), torn_at=st.integers(0, 20))
    def checkpoint(self, reached, torn_at):
        """One that is killed in the changelog (0), behind it (1), behind the disk (2), or not."""
        changes = self.partition.take_changes()
        entries = list(changes.items())
        self.changelog += entries[:torn_at] if reached == 0 else entries
        if reached >= 2:
            self.partition.write(changes, len(self.changelog) - 1)
        if reached == 3:
            self.committed = self.partition.next_offset or 0
        else:
            self.start()

    @rule()
    def lose_the_disk(self):
        self.disk = Disk()
        self.start()

    # -- what must hold ------------------------------------------------------------------------

    @invariant()
    def nothing_is_committed_that_is_not_durable(self):
        histories = decode_histories(self.durable())
        for key, user in replay(self.records[: self.committed]).items():
            assert histories[key].head.watermark >= user.watermark

    def teardown(self):
        while self.n_known < len(ITEMS):
            self.learn()
        while self.fetched < len(self.records):
            self.consume(100)
        for user in USERS:
            self.cut(user)
        self.checkpoint(reached=3, torn_at=0)

        histories = decode_histories(self.durable())
        assert differences(histories, replay(self.records)) == []
        for history in histories.values():
            visible = history.hashes[-3 * SHAPE.segment_size :]  # what a cut has read
            n_open = history.head.n_events % SHAPE.segment_size
            n_read = min(len(visible), n_open + 2 * SHAPE.segment_size)
            assert all(history.coded[-n_read:] if n_read else [])
            codes = history.codes[-n_read:] if n_read else []
            assert codes == [CODES[one] for one in history.hashes[len(history.hashes) - n_read :]]

    def durable(self):
        return {key: value for key, value in dict(self.changelog).items() if value is not None}


TestAnyInterleaving = Interleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
