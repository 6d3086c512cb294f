"""The producer SDK: what users do, into Kafka, from any Python program.

    from stream.producer import Producer

    with Producer("127.0.0.1:9092") as producer:
        receipt = producer.publish("user", item_id="50", action="click")

`publish` waits until the event is durable and returns its receipt, which Recommend takes as
`after`. `publish_nowait` hands the event over and returns a future; the buffer is bounded, and a
full one makes the call wait, then raise Overloaded. Programs on asyncio have
stream/aio_producer.py, items have stream/item_publisher.py.

While Kafka is away, what has been handed over waits in the buffer and goes when it is back;
`publish` and `flush` say DependencyDown at their deadline, and a future stays open.

Delivery: at least once, and harmless when repeated. An event is named here if the caller did not
(event_id), and the SDK repeats a failed record under the same name; the stream applies a name once
among a user's newest 64 events. So whoever retries on his own should choose the event_id himself.

Order: events of one user stand in the log in the order in which one thread handed them over, unless
a failed record was repeated. A user's record is keyed as protos/keys.py says, and lies where
Kafka's murmur2 puts it.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Required, TypedDict, TypeVar, Unpack

from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random,
)

from protos.errors import DependencyDown, FreshetError, InvalidInput
from protos.keys import checked_id, checked_tenant, compose_key
from protos.rec.v1.events_pb2 import Erasure, Event, EventBatch, Receipt
from stream.delivery import Client, Deadline, Delivery
from stream.kafka_writer import Writer, WriterOptions, no_partitions, no_room
from stream.validity import (
    MAX_EVENTS,
    MAX_RECORD_BYTES,
    EventNames,
    event_refusal,
    fill_in,
)

Repeating = TypeVar("Repeating", Retrying, AsyncRetrying)


class EventFields(TypedDict, total=False):
    """The fields of rec.v1.Event; protos/rec/v1/events.proto says what they mean."""

    item_id: Required[str]
    action: Required[str]
    event_id: str
    event_time_ms: int
    value: float
    session_id: str
    recommendation_id: str
    scenario: str
    variant: str
    properties: Mapping[str, str]


def make_event(**fields: Unpack[EventFields]) -> Event:
    """Return an event. Raises InvalidInput for a field of the wrong type."""
    try:
        return Event(**fields)
    except (TypeError, ValueError) as error:
        raise InvalidInput(_misfit(fields)) from error


def make_batch(tenant: str, user_id: str, events: Iterable[Event] = ()) -> EventBatch:
    """Return a copy of the events as the value of one record. Raises InvalidInput for a bad user or
    tenant."""
    try:
        user_id = checked_id(user_id, "user_id")
        return EventBatch(tenant=checked_tenant(tenant), user_id=user_id, events=events)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"user_id {user_id!r} or tenant {tenant!r} is no text") from error


def make_erasure(tenant: str, user_id: str, reason: str = "") -> EventBatch:
    """Return the value of the record that erases a user. Raises InvalidInput."""
    batch = make_batch(tenant, user_id)
    batch.erase.CopyFrom(Erasure(requested_at_ms=now_ms(), reason=reason))
    return batch


def check_size(batch: EventBatch) -> None:
    """Raise InvalidInput for a record that Kafka would not take."""
    if (n_bytes := batch.ByteSize()) > MAX_RECORD_BYTES:
        raise InvalidInput(
            f"the events have {n_bytes:,} bytes together, a record takes {MAX_RECORD_BYTES:,}; "
            "send them in smaller groups"
        )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def repeating(kind: type[Repeating], deadline: Deadline) -> Repeating:
    """Return how a checked record is sent again while Kafka fails, until the deadline."""
    return kind(
        retry=retry_if_exception_type(DependencyDown),
        wait=wait_random(0.05, 0.25),
        stop=stop_after_delay(deadline.limit_s - 0.25),
        reraise=True,
    )


class Producer(Client):
    """Publishes what users do. Thread-safe; keep one for the life of the process."""

    def __init__(
        self,
        kafka: str | Writer,
        *,
        topic_prefix: str = "rec",
        options: WriterOptions | None = None,
    ) -> None:
        super().__init__(kafka, topic_prefix=topic_prefix, options=options)
        self._names = EventNames()

    def publish(
        self,
        user_id: str,
        *,
        tenant: str = "",
        timeout_s: float | None = None,
        **fields: Unpack[EventFields],
    ) -> Receipt:
        """Publish one event and wait until it is durable.

        Args:
            timeout_s: for everything: room in the buffer, repeats, the broker's word.

        Raises:
            InvalidInput: the message says which field to change.
            Overloaded: the buffer stayed full.
            DependencyDown: Kafka did not confirm in time. The event may still have arrived.
        """
        event = make_event(**fields)
        return self.publish_batch(user_id, [event], tenant=tenant, timeout_s=timeout_s)

    def publish_batch(
        self,
        user_id: str,
        events: Sequence[Event],
        *,
        tenant: str = "",
        timeout_s: float | None = None,
    ) -> Receipt:
        """Publish several events of one user, in order, as one record, and wait; all or none.

        Raises: as `publish`; an InvalidInput names the event by its place, from 0.
        """
        return self._deliver(self.checked_batch(user_id, events, tenant=tenant), timeout_s)

    def publish_nowait(
        self, user_id: str, *, tenant: str = "", **fields: Unpack[EventFields]
    ) -> Delivery:
        """Hand over one event; the future holds its receipt, or the error that `publish` raises.

        Waits only while the buffer is full. Raises InvalidInput, Overloaded.
        """
        return self.publish_batch_nowait(user_id, [make_event(**fields)], tenant=tenant)

    def publish_batch_nowait(
        self, user_id: str, events: Sequence[Event], *, tenant: str = ""
    ) -> Delivery:
        """Hand over several events of one user as one record; otherwise as `publish_nowait`."""
        batch = self.checked_batch(user_id, events, tenant=tenant)
        return self.send(batch, wait_s=self._options.timeout_s)

    def erase(
        self, user_id: str, *, tenant: str = "", reason: str = "", timeout_s: float | None = None
    ) -> Receipt:
        """Erase everything known of a user. Raises: as `publish`."""
        return self._deliver(make_erasure(tenant, user_id, reason), timeout_s)

    def checked_batch(
        self, user_id: str, events: Sequence[Event], *, tenant: str = ""
    ) -> EventBatch:
        """Return a copy of the events, filled in and checked, for `send`. Raises InvalidInput."""
        return self._checked(make_batch(tenant, user_id, events))

    def send(self, batch: EventBatch, *, wait_s: float) -> Delivery:
        """Hand over a record whose events have been checked already (stream/validity.py).

        Raises:
            Overloaded: the buffer was full for `wait_s`.
        """
        delivery = Delivery(batch.tenant, batch.user_id)
        key = compose_key(batch.tenant, batch.user_id)
        value = batch.SerializeToString()
        self._writer.submit(self._topic, key, value, delivery.finish, wait_s=wait_s)
        return delivery

    @property
    def _topic(self) -> str:
        return self._topics.events

    def obstacle(self) -> FreshetError:
        """Return the error for a record that could not be handed over in time."""
        if not self.is_warm:
            return no_partitions(self._topic)
        return no_room(self._writer.bytes_in_flight)

    def deadline(self, timeout_s: float | None) -> Deadline:
        """Return by when a call that starts now has to answer; None: as the options say."""
        return Deadline(self._limit_s(timeout_s))

    def _deliver(self, batch: EventBatch, timeout_s: float | None) -> Receipt:
        """Send a checked record, wait, and repeat it while Kafka fails."""
        deadline = self.deadline(timeout_s)

        def attempt() -> Receipt:
            return deadline.wait(self.send(batch, wait_s=deadline.remaining_s()))

        return repeating(Retrying, deadline)(attempt)

    def _checked(self, batch: EventBatch) -> EventBatch:
        """Fill in and check the events of a record, in place. Raises InvalidInput."""
        if not 1 <= len(batch.events) <= MAX_EVENTS:
            raise InvalidInput(
                f"a record holds 1 to {MAX_EVENTS:,} events, not {len(batch.events):,}"
            )
        now = now_ms()
        for place, event in enumerate(batch.events):
            fill_in(event, now, self._names)
            if reason := event_refusal(event, now):
                raise InvalidInput(reason if len(batch.events) == 1 else f"event {place}: {reason}")
        check_size(batch)
        return batch


def _misfit(fields: EventFields) -> str:
    for name, value in fields.items():
        try:
            Event(**{name: value})  # type: ignore[arg-type]  # whether it fits is the question
        except (TypeError, ValueError) as error:
            return f"{name}={value!r} does not fit an event: {error}"
    raise AssertionError("each field fits alone, and together they did not")
