"""Dead letters: records of rec.events, or single events of them, that could not be applied.

A dead letter is the record as it came; its headers say the rest: reason (for programs), detail (a
sentence), source_topic, source_partition, source_offset, source_timestamp_ms, and event_index
(which event of the record; empty for the whole record). A dead letter is named by where it lies
itself: PARTITION:OFFSET of the dead-letter topic.

That a letter was sent again stands in the topic too: a record without headers, whose key is
`redriven/PARTITION:OFFSET`. Reading joins no consumer group and commits
nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from infra.kafka_log import KafkaLog, Offsets
from protos.errors import InvalidInput
from protos.rec.v1.events_pb2 import EventBatch

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
    """Reads the dead-letter topic. Raises DependencyDown when Kafka stops answering."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log

    def newest(self, limit: int) -> list[DeadLetter]:
        """Return the newest `limit` dead letters of all partitions, newest first."""
        begins, ends = self._log.bounds()
        width, letters = limit, []
        while True:  # notes of redrives stand among the letters
            starts = {one: max(begins[one], ends[one] - width) for one in ends}
            letters = [letter for letter in self._read(starts, ends) if letter.redriven is None]
            if len(letters) >= limit or starts == begins:
                break
            width *= 4
        letters.sort(key=lambda letter: (letter.timestamp_ms, letter.offset), reverse=True)
        return letters[:limit]

    def one(self, partition: int, offset: int) -> DeadLetter:
        """Return one. Raises InvalidInput when there is none at that place."""
        if partition not in self._log.partitions:
            last = self._log.partitions[-1]
            raise InvalidInput(f"{self._log.topic} has partitions 0 to {last}")
        begins, ends = self._log.bounds()
        begin, end = begins.get(partition, 0), ends.get(partition, 0)
        if not begin <= offset < end:
            held = f"holds {begin} to {end - 1}" if begin < end else "is empty"
            raise InvalidInput(f"nothing at {partition}:{offset}; the partition {held}")
        letter = next(self._read({partition: offset}, {partition: offset + 1}))
        if letter.redriven is not None:
            raise InvalidInput(
                f"{partition}:{offset} is no letter; it says that {letter.redriven} was redriven"
            )
        return letter

    def redriven(self) -> set[str]:
        """Return the places of all letters that were sent again."""
        letters = self._read()
        return {letter.redriven for letter in letters if letter.redriven is not None}

    def every(self) -> Iterator[DeadLetter]:
        """Iterate over the letters that are there now, each partition's in its order."""
        return (letter for letter in self._read() if letter.redriven is None)

    def _read(
        self, starts: Offsets | None = None, ends: Offsets | None = None
    ) -> Iterator[DeadLetter]:
        return map(_letter, self._log.read(starts, ends))


def _letter(record: Any) -> DeadLetter:
    headers = {name: value.decode(errors="backslashreplace") for name, value in record.headers}
    return DeadLetter(
        record.partition, record.offset, record.timestamp, record.key, record.value, headers
    )
