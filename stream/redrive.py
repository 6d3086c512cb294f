"""Dead letters sent again, once what was wrong is mended: an action declared, a bug fixed.

    letter -> `revive` -> rec.events, the user's own partition -> durable -> noted in the topic

Delivery: at least once, and applied once among a user's newest 64 events. An event that had no
event_id is named after where it first stood, as the worker would have named it; so a redrive that
was interrupted between its record and its note, and is repeated, repeats the name too.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from infra.kafka_topics import Topics
from protos.errors import FreshetError, InvalidInput
from protos.keys import checked_id, checked_tenant, compose_key
from protos.rec.v1.events_pb2 import EventBatch, Origin
from stream.dead_letters import REDRIVEN, DeadLetter
from stream.delivery import Deadline
from stream.kafka_writer import Writer, Written
from stream.validation import Place, RefusedEvent, name_event, parse_batch

IN_FLIGHT = 500


@dataclass(frozen=True, slots=True)
class Redriven:
    letter: DeadLetter
    problem: str = ""
    """Why it could not be sent; empty when it is durable."""


def revive(letter: DeadLetter) -> EventBatch:
    """Return the record to publish. Raises InvalidInput for what names no user."""
    headers = [(name, text.encode()) for name, text in letter.headers.items()]
    try:
        batch = parse_batch(letter.value, headers)
        batch.tenant = checked_tenant(batch.tenant)
        checked_id(batch.user_id, "user_id")
    except RefusedEvent as error:
        raise InvalidInput(str(error)) from error
    place = _source(letter)
    index = letter.header("event_index")
    for number, event in enumerate(batch.events):
        event.event_id = event.event_id or name_event(place, int(index or number))
    if not batch.HasField("origin"):
        batch.origin.CopyFrom(
            Origin(
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
                timestamp_ms=place.timestamp_ms,
            )
        )
    return batch


def _source(letter: DeadLetter) -> Place:
    names = ("source_partition", "source_offset", "source_timestamp_ms")
    try:
        numbers = [int(letter.header(name)) for name in names]
    except ValueError as error:
        raise InvalidInput("its headers do not say where it comes from") from error
    return Place(letter.header("source_topic"), *numbers)


def examine(letter: DeadLetter) -> Redriven:
    """Say whether a letter could be sent, and send nothing."""
    try:
        revive(letter)
    except InvalidInput as error:
        return Redriven(letter, str(error))
    return Redriven(letter)


def redrive(
    letters: Iterable[DeadLetter], writer: Writer, topics: Topics, *, timeout_s: float
) -> Iterator[Redriven]:
    """Send letters again, in order, some hundred at a time; yield each when its fate is known.

    Raises DependencyDown, Overloaded: Kafka did not take one; repeat it, what went is noted.
    """
    pending: list[tuple[DeadLetter, Future[Written]]] = []
    for letter in letters:
        try:
            batch = revive(letter)
        except InvalidInput as error:
            yield Redriven(letter, str(error))
            continue
        key = compose_key(batch.tenant, batch.user_id)
        sent = _submit(writer, topics.events, key, batch.SerializeToString(), timeout_s)
        pending.append((letter, sent))
        if len(pending) == IN_FLIGHT:
            yield from _note(pending, writer, topics, timeout_s)
            pending = []
    yield from _note(pending, writer, topics, timeout_s)


def _note(
    sent: list[tuple[DeadLetter, Future[Written]]], writer: Writer, topics: Topics, timeout_s: float
) -> Iterator[Redriven]:
    """Wait until records are durable, and then until it is noted that they are."""
    deadline = Deadline(timeout_s)
    notes = []
    for letter, written in sent:
        deadline.wait(written)
        key = REDRIVEN + letter.place.encode()
        notes.append(_submit(writer, topics.dead_letters, key, b"", timeout_s))
    for (letter, _), note in zip(sent, notes, strict=True):
        deadline.wait(note)
        yield Redriven(letter)


def _submit(
    writer: Writer, topic: str, key: bytes, value: bytes, timeout_s: float
) -> Future[Written]:
    future: Future[Written] = Future()

    def done(outcome: Written | FreshetError) -> None:
        if isinstance(outcome, FreshetError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    writer.submit(topic, key, value, done, wait_s=timeout_s)
    return future
