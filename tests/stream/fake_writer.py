"""A log in memory, in the place of Kafka: confirms at once, later, or never, as the test says."""

import threading
from collections import deque
from dataclasses import dataclass, field

from infra.kafka_topics import key_partition
from protos.errors import Overloaded
from protos.rec.v1.events_pb2 import EventBatch
from stream.kafka_writer import Written

N_PARTITIONS = 4


@dataclass
class Submitted:
    topic: str
    key: bytes
    value: bytes | None
    wait_s: float

    @property
    def batch(self):
        return EventBatch.FromString(self.value)


@dataclass
class FakeWriter:
    is_silent: bool = False
    """Never confirms, until `confirm_all`."""
    room: int | None = None
    """Records that may wait for confirmation; None: any number."""
    failures: deque = field(default_factory=deque)
    """Errors for the next records, one each."""
    forgotten: set = field(default_factory=set)
    """Topics to ask for again; handing over without having asked is an error."""
    log: list[Submitted] = field(default_factory=list)
    is_closed: bool = False

    def __post_init__(self):
        self._waiting = []
        self._ends = {}

    def knows(self, topic):
        return topic not in self.forgotten

    def warm(self, *topics):
        self.warmed_on = threading.current_thread()
        self.forgotten -= set(topics)

    def submit(self, topic, key, value, on_done, *, wait_s):
        assert topic not in self.forgotten, f"{topic} was not asked for"
        if self.room is not None and len(self._waiting) >= self.room:
            raise Overloaded("full", retry_after_s=0.01)
        self.log.append(Submitted(topic, key, value, wait_s))
        if self.failures:
            on_done(self.failures.popleft())
        elif self.is_silent:
            self._waiting.append((topic, key, on_done))
        else:
            on_done(self._written(topic, key))

    def confirm_all(self):
        waiting, self._waiting = self._waiting, []
        for topic, key, on_done in waiting:
            on_done(self._written(topic, key))

    def flush(self, timeout_s):
        self.confirm_all()

    def close(self):
        self.is_closed = True

    @property
    def bytes_in_flight(self):
        return len(self._waiting)

    def events(self):
        """Return all events in the order of the log."""
        return [event for one in self.log for event in one.batch.events]

    def _written(self, topic, key):
        partition = key_partition(key, N_PARTITIONS)
        offset = self._ends.get((topic, partition), 0)
        self._ends[topic, partition] = offset + 1
        return Written(partition, offset)
