"""`freshet dlq`: what could not be applied, and why.

A dead letter is the record as it came; its headers say the rest: reason (for programs), detail (a
sentence), source_topic, source_partition, source_offset, source_timestamp_ms, and event_index
(which event of the record; empty for the whole record). A dead letter is named by where it lies
itself:
PARTITION:OFFSET of the dead-letter topic.

Reading joins no consumer group and commits nothing.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.endpoints import Endpoints
from infra.kafka_topics import Topics
from infra.settings import SharedSettings
from protos.errors import DependencyDown, InvalidInput, NotReady
from protos.rec.v1.events_pb2 import EventBatch

TIMEOUT_S = 20.0
N_SHOWN_BYTES = 512

app = typer.Typer(no_args_is_help=True, help="Look at events that could not be applied.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
        begins = self._consumer.beginning_offsets(self._partitions)
        ends = self._consumer.end_offsets(self._partitions)
        filled = [
            partition for partition in self._partitions if begins[partition] < ends[partition]
        ]
        starts = {one: max(begins[one], ends[one] - limit) for one in filled}
        letters = self._read(starts, {one: ends[one] for one in filled})
        letters.sort(key=lambda letter: (letter.timestamp_ms, letter.offset), reverse=True)
        return letters[:limit]

    def one(self, partition: int, offset: int) -> DeadLetter:
        """Return one. Raises InvalidInput when there is none at that place."""
        at = TopicPartition(self._topic, partition)
        if at not in self._partitions:
            raise InvalidInput(f"{self._topic} has partitions 0 to {len(self._partitions) - 1}")
        begin = self._consumer.beginning_offsets([at])[at]
        end = self._consumer.end_offsets([at])[at]
        if not begin <= offset < end:
            held = f"holds {begin} to {end - 1}" if begin < end else "is empty"
            raise InvalidInput(f"nothing at {partition}:{offset}; the partition {held}")
        return self._read({at: offset}, {at: offset + 1})[0]

    def _read(
        self, starts: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> list[DeadLetter]:
        if not starts:
            return []
        self._consumer.assign(list(starts))
        for partition, offset in starts.items():
            self._consumer.seek(partition, offset)
        letters: list[DeadLetter] = []
        gives_up_at = time.monotonic() + TIMEOUT_S
        while any(self._consumer.position(one) < end for one, end in ends.items()):
            if time.monotonic() > gives_up_at:
                raise DependencyDown(f"{self._topic} was not read within {TIMEOUT_S:g} s; again?")
            for partition, records in self._consumer.poll(timeout_ms=500).items():
                letters += [_letter(one) for one in records if one.offset < ends[partition]]
        return letters


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


@app.command(name="list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest N.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the newest dead letters, newest first."""
    with _reader() as reader:
        letters = reader.newest(limit)
    if as_json:
        print(json.dumps([letter.record() for letter in letters]))
        return
    if not letters:
        print("no dead letters")
        return
    table = Table("place", "when", "reason", "detail", "source")
    for letter in letters:
        reason, detail = letter.header("reason"), letter.header("detail")
        cells = (letter.place, _moment(letter.timestamp_ms), reason, detail, letter.source())
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)


@app.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="From `list`.")],
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole."""
    partition, offset = _parsed(place)
    with _reader() as reader:
        letter = reader.one(partition, offset)
    if as_json:
        print(json.dumps(letter.record()))
        return
    for name, value in _lines(letter):
        print(f"{name:20} {value}")


def _lines(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    yield "place", letter.place
    yield "when", _moment(letter.timestamp_ms)
    yield "key", "none" if letter.key is None else letter.key.decode(errors="backslashreplace")
    yield from letter.headers.items()
    batch, value = letter.batch(), letter.value or b""
    if batch is not None:
        yield "value", json.dumps(batch, indent=2)
    else:
        cut = "..." if len(value) > N_SHOWN_BYTES else ""
        yield "value", f"{len(value):,} bytes, no EventBatch: {value[:N_SHOWN_BYTES].hex(' ')}{cut}"


def _parsed(place: str) -> tuple[int, int]:
    partition, _, offset = place.partition(":")
    try:
        return int(partition), int(offset)
    except ValueError as error:
        raise InvalidInput(f"{place!r} is not PARTITION:OFFSET, e.g. 0:17") from error


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")


@contextmanager
def _reader() -> Iterator[DeadLetterReader]:
    # Errors reach the user as ours; the client's own words on the way there would only repeat them.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    topic = Topics(SharedSettings().topic_prefix).dead_letters
    with (
        Console(stderr=True).status("reading dead letters"),
        open_reader(Endpoints.load().kafka_bootstrap, topic) as reader,
    ):
        yield reader
