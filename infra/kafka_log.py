"""Reads what a topic holds now, from beginning to end: no group, nothing committed.

with open_log(bootstrap, topic) as log:
    for record in log.read():
        ...
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from infra.kafka_broker import unreachable
from protos.errors import DependencyDown, NotReady

SILENCE_S = 20.0
"""How long a broker may take for the next records."""

Offsets = Mapping[int, int]
"""By partition."""


class KafkaLog:
    """One topic. Raises DependencyDown when Kafka stops answering."""

    def __init__(self, consumer: Any, topic: str) -> None:
        """
        Args:
            consumer: a KafkaConsumer, or what stands for one in a test.

        Raises NotReady when there is no such topic.
        """
        self._consumer, self.topic = consumer, topic
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise NotReady(f"there is no topic {topic}; start `freshet up` once, it creates it")
        self.partitions = sorted(numbers)

    def bounds(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return the first offset, and the one after the last, of partitions that hold any."""
        places = [TopicPartition(self.topic, number) for number in self.partitions]
        begins = self._consumer.beginning_offsets(places)
        ends = self._consumer.end_offsets(places)
        filled = [place for place in places if begins[place] < ends[place]]
        return (
            {place.partition: begins[place] for place in filled},
            {place.partition: ends[place] for place in filled},
        )

    def read(self, starts: Offsets | None = None, ends: Offsets | None = None) -> Iterator[Any]:
        """Iterate over records, each partition's in their order, partitions mixed.

        Args:
            starts, ends: first and past-the-last offset of the partitions to read; by default all
                that is there now.
        """
        if starts is None or ends is None:
            starts, ends = self.bounds()
        places = {TopicPartition(self.topic, number): start for number, start in starts.items()}
        if not places:
            return
        self._consumer.assign(list(places))
        for place, start in places.items():
            self._consumer.seek(place, start)
        gives_up_at = time.monotonic() + SILENCE_S
        while any(self._consumer.position(place) < ends[place.partition] for place in places):
            if time.monotonic() > gives_up_at:
                raise DependencyDown(f"{self.topic} was not read on for {SILENCE_S:g} s; again?")
            for place, records in self._consumer.poll(timeout_ms=500).items():
                gives_up_at = time.monotonic() + SILENCE_S
                yield from (one for one in records if one.offset < ends[place.partition])


@contextmanager
def open_log(bootstrap: str, topic: str) -> Iterator[KafkaLog]:
    """Connect; what the client raises leaves as DependencyDown."""
    consumer = None
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap.split(","),
            enable_auto_commit=False,
            bootstrap_timeout_ms=round(SILENCE_S * 500),
        )
        yield KafkaLog(consumer, topic)
    except KafkaError as error:
        raise unreachable(bootstrap, error) from error
    finally:
        if consumer is not None:
            consumer.close()
