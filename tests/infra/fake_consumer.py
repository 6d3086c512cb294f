from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition


@dataclass
class FakeConsumer:
    """One topic in memory; hands over two records of a partition a poll.

    Its offsets may have holes, as those of a compacted topic.
    """

    topic: str
    partitions: dict[int, list[Any]]
    positions: dict[TopicPartition, int] = field(default_factory=dict)

    def partitions_for_topic(self, topic):
        return set(self.partitions) if topic == self.topic else None

    def beginning_offsets(self, partitions):
        return {one: self._bound(one, 0, lambda records: records[0].offset) for one in partitions}

    def end_offsets(self, partitions):
        last = lambda records: records[-1].offset + 1  # noqa: E731
        return {one: self._bound(one, 0, last) for one in partitions}

    def assign(self, partitions):
        self.positions = dict.fromkeys(partitions, 0)

    def seek(self, partition, offset):
        self.positions[partition] = offset

    def position(self, partition):
        return self.positions[partition]

    def poll(self, timeout_ms):
        polled = {}
        for partition, position in self.positions.items():
            records = self.partitions[partition.partition]
            polled[partition] = [one for one in records if one.offset >= position][:2]
            if polled[partition]:
                self.positions[partition] = polled[partition][-1].offset + 1
        return polled

    def _bound(self, partition, default, bound):
        records = self.partitions[partition.partition]
        return bound(records) if records else default
