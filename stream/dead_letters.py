"""Dead letters: records of rec.events, or single events of them, that could not be applied.

A dead letter is the record as it came; its headers say the rest: reason (for programs), detail (a
sentence), source_topic, source_partition, source_offset, source_timestamp_ms, and event_index
(which event of the record; empty for the whole record). A dead letter is named by where it lies
itself: PARTITION:OFFSET of the dead-letter topic.

That a letter was sent again stands in the topic too: a record without headers, whose key is
`redriven/PARTITION:OFFSET`. Reading joins no consumer group and commits
nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from protos.errors import DependencyDown, InvalidInput, NotReady
from protos.rec.v1.events_pb2 import EventBatch

TIMEOUT_S = 20.0

REDRIVEN = b"redriven/"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]

    @property
    def place(self) -> str:
        return f"{self.partition}:{self.offset}"

    def header(self, name: str) -> str:
        """Return a header, "" where whoever wrote the record left it out."""
        return self.headers.get(name, "")

    @property
    def redriven(self) -> str | None:
        """For the record of a redrive: the place of its letter."""
        if self.headers or self.key is None or not self.key.startswith(REDRIVEN):
            return None
        return self.key.removeprefix(REDRIVEN).decode(errors="backslashreplace")

    def source(self) -> str:
        """Return where the record first stood, e.g. rec.events 0:17 event 2."""
        place = f"{self.header('source_partition')}:{self.header('source_offset')}"
        index = self.header("event_index")
        return f"{self.header('source_topic')} {place}" + (f" event {index}" if index else "")

    def batch(self) -> dict[str, Any] | None:
        """Return the value as plain types when it is an EventBatch, else None."""
        try:
            batch = EventBatch.FromString(self.value or b"")
        except DecodeError:
            return None
        return MessageToDict(batch, preserving_proto_field_name=True) or None

    def record(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "partition": self.partition,
            "offset": self.offset,
            "timestamp_ms": self.timestamp_ms,
            "key": None if self.key is None else self.key.decode(errors="backslashreplace"),
            **self.headers,
            "value_bytes": len(self.value or b""),
            "value_hex": (self.value or b"").hex(),
            "batch": self.batch(),
        }


class DeadLetterReader:
    """Reads the dead-letter topic. Raises DependencyDown, NotReady when it cannot."""

    def __init__(self, consumer: KafkaConsumer, topic: str) -> None:
        self._consumer, self._topic = consumer, topic
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise NotReady(f"there is no topic {topic}; start `freshet up` once, it creates it")
        self._partitions = [TopicPartition(topic, number) for number in sorted(numbers)]

    def newest(self, limit: int) -> list[DeadLetter]:
        """Return the newest `limit` dead letters of all partitions, newest first."""
        begins, ends = self._bounds()
        width, letters = limit, []
        while True:  # records that remember a redrive stand among the letters
            starts = {one: max(begins[one], ends[one] - width) for one in ends}
            letters = [letter for letter in self._read(starts, ends) if letter.redriven is None]
            if len(letters) >= limit or starts == begins:
                break
            width *= 4
        letters.sort(key=lambda letter: (letter.timestamp_ms, letter.offset), reverse=True)
        return letters[:limit]

    def one(self, partition: int, offset: int) -> DeadLetter:
        """Return one. Raises InvalidInput when there is none at that place."""
        at = TopicPartition(self._topic, partition)
        if at not in self._partitions:
            raise InvalidInput(f"{self._topic} has partitions 0 to {len(self._partitions) - 1}")
        begins, ends = self._bounds()
        begin, end = begins.get(at, 0), ends.get(at, 0)
        if not begin <= offset < end:
            held = f"holds {begin} to {end - 1}" if begin < end else "is empty"
            raise InvalidInput(f"nothing at {partition}:{offset}; the partition {held}")
        letter = next(self._read({at: offset}, {at: offset + 1}))
        if letter.redriven is not None:
            raise InvalidInput(
                f"{partition}:{offset} is no letter; it says that {letter.redriven} was redriven"
            )
        return letter

    def redriven(self) -> set[str]:
        """Return the places of all letters that were sent again."""
        letters = self._read(*self._bounds())
        return {letter.redriven for letter in letters if letter.redriven is not None}

    def every(self) -> Iterator[DeadLetter]:
        """Iterate over the letters that are there now, each partition's in its order."""
        return (letter for letter in self._read(*self._bounds()) if letter.redriven is None)

    def _bounds(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Return where the partitions that hold anything begin, and where they end."""
        begins = self._consumer.beginning_offsets(self._partitions)
        ends = self._consumer.end_offsets(self._partitions)
        filled = [one for one in self._partitions if begins[one] < ends[one]]
        return {one: begins[one] for one in filled}, {one: ends[one] for one in filled}

    def _read(
        self, starts: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> Iterator[DeadLetter]:
        if not starts:
            return
        self._consumer.assign(list(starts))
        for partition, offset in starts.items():
            self._consumer.seek(partition, offset)
        gives_up_at = time.monotonic() + TIMEOUT_S
        while any(self._consumer.position(one) < end for one, end in ends.items()):
            if time.monotonic() > gives_up_at:
                raise DependencyDown(f"{self._topic} was not read on for {TIMEOUT_S:g} s; again?")
            for partition, records in self._consumer.poll(timeout_ms=500).items():
                gives_up_at = time.monotonic() + TIMEOUT_S
                yield from (_letter(one) for one in records if one.offset < ends[partition])


def _letter(record: Any) -> DeadLetter:
    headers = {name: value.decode(errors="backslashreplace") for name, value in record.headers}
    return DeadLetter(
        record.partition, record.offset, record.timestamp, record.key, record.value, headers
    )


@contextmanager
def open_reader(bootstrap: str, topic: str) -> Iterator[DeadLetterReader]:
    """Connect; what the client raises leaves as our errors."""
    consumer = None
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap.split(","),
            enable_auto_commit=False,
            bootstrap_timeout_ms=round(TIMEOUT_S * 500),
        )
        yield DeadLetterReader(consumer, topic)
    except KafkaError as error:
        raise DependencyDown(
            f"Kafka at {bootstrap} does not answer; is it up? ({error})"
        ) from error
    finally:
        if consumer is not None:
            consumer.close()
