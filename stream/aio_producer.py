"""The producer SDK for programs on asyncio: stream/producer.py, awaited.

    from stream.aio_producer import AsyncProducer

    async with AsyncProducer("127.0.0.1:9092") as producer:
        receipt = await producer.publish("ada", item_id="50", action="click")

Checks, names, repeats and errors are the sync producer's; only the waiting is ours. The event loop
is never held up: connecting, flush, close and the look-up of the topic run on a thread, room in the
buffer and the broker's word are awaited. For throughput run many publishes at once, or
publish_batch; what is on its way is bounded by WriterOptions.buffer_bytes, what waits for room by
the tasks that await it.

Delivery and order: as there, at least once and harmless when repeated. Events stand in the log in
the order in which their publishes began (of tasks: in which they were started), unless a failed
record was repeated: whoever finds no room stands in a line.

Cancelling a publish ends the wait, not the record. While it waited for room, nothing was sent, and
nothing will be. Later the record is on its way and arrives, once; only repeats after a failure
stop. The caller cannot tell the two apart, so whoever publishes again should choose the event_id
himself, which makes it harmless. A cancelled flush or close goes on in the background; a connection
that nobody waits for any more is closed.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self, TypeVar, Unpack

from tenacity import AsyncRetrying

from protos.errors import DependencyDown, Overloaded
from protos.rec.v1.events_pb2 import Event, EventBatch, Receipt
from stream.delivery import Deadline, Delivery, confirmed
from stream.kafka_writer import Writer, WriterOptions
from stream.producer import EventFields, Producer, make_erasure, make_event, repeating

T = TypeVar("T")


class AsyncProducer:
    """Publishes what users do. For the tasks of one event loop; keep one for the life of it."""

    def __init__(
        self,
        kafka: str | Writer,
        *,
        topic_prefix: str = "rec",
        options: WriterOptions | None = None,
    ) -> None:
        """Prepare; `async with` connects. The arguments are those of `Producer`.

        A writer that is lent stays open, and room that others free in it is noticed within
        Overloaded.retry_after_s, what this producer frees at once.
        """
        self._connect = partial(Producer, kafka, topic_prefix=topic_prefix, options=options)
        self._producer: Producer | None = None
        self._line = asyncio.Lock()
        """Held by the one record that may be sent next; the others wait in the order they came."""
        self._room = asyncio.Event()
        self._is_room_wanted = False
        self._warming: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises DependencyDown when no broker answers."""
        self._loop = asyncio.get_running_loop()
        connecting = self._loop.run_in_executor(None, self._connect)
        try:
            self._producer = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_close_unwanted)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def publish(
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
            DependencyDown: Kafka did not confirm in time, and the event may still have arrived; or
                this producer is not open.
        """
        event = make_event(**fields)
        return await self.publish_batch(user_id, [event], tenant=tenant, timeout_s=timeout_s)

    async def publish_batch(
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
        batch = self._opened().checked_batch(user_id, events, tenant=tenant)
        return await self._deliver(batch, timeout_s)

    async def erase(
        self, user_id: str, *, tenant: str = "", reason: str = "", timeout_s: float | None = None
    ) -> Receipt:
        """Erase everything known of a user. Raises: as `publish`."""
        return await self._deliver(make_erasure(tenant, user_id, reason), timeout_s)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was handed over has arrived or failed; what waits for room was not.

        Raises:
            DependencyDown: that takes longer than `timeout_s`, or this producer is not open.
        """
        await self._on_a_thread(partial(self._opened().flush, timeout_s))

    async def close(self) -> None:
        """Refuse what waits for room, deliver what is on its way, then disconnect.

        Raises:
            DependencyDown: not all could be delivered.
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            self._room.set()
            await self._on_a_thread(producer.close)

    async def _deliver(self, batch: EventBatch, timeout_s: float | None) -> Receipt:
        """Send a checked record, wait, and repeat it while Kafka fails."""
        deadline = self._opened().deadline(timeout_s)

        async def attempt() -> Receipt:
            return await confirmed(await self._hand_over(batch, deadline), deadline)

        repeat = repeating(AsyncRetrying, deadline)
        give_up = repeat.stop
        return await repeat.copy(stop=lambda state: not self._producer or give_up(state))(attempt)

    async def _hand_over(self, batch: EventBatch, deadline: Deadline) -> Delivery:
        """Send a record when its turn has come and there is room."""
        try:
            async with asyncio.timeout(deadline.remaining_s()), self._line:
                delivery = await self._send(batch)
        except TimeoutError as error:
            raise self._opened().obstacle() from error
        delivery.add_done_callback(self._tell_room)
        return delivery

    async def _send(self, batch: EventBatch) -> Delivery:
        self._is_room_wanted = True
        try:
            while True:
                producer = self._opened()
                if not producer.is_warm:
                    await self._warm(producer)
                    continue
                self._room.clear()
                try:
                    return producer.send(batch, wait_s=0)
                except Overloaded as error:
                    await self._wait_for_room(error.retry_after_s)
        finally:
            self._is_room_wanted = False

    async def _wait_for_room(self, limit_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._room.wait()

    async def _warm(self, producer: Producer) -> None:
        """Learn the topic on a thread; one at most, however many give up waiting for it."""
        if self._warming is None or self._warming.done():
            self._warming = self._loop.run_in_executor(None, producer.warm)
        await asyncio.shield(self._warming)

    def _tell_room(self, delivery: Future[Receipt]) -> None:
        """Called on the Kafka client's thread."""
        if self._is_room_wanted:
            self._loop.call_soon_threadsafe(self._room.set)

    async def _on_a_thread(self, work: Callable[[], T]) -> T:
        """Run work to its end, even when the wait for it is cancelled."""
        return await asyncio.shield(self._loop.run_in_executor(None, work))

    def _opened(self) -> Producer:
        if self._producer is None:
            raise DependencyDown("this producer is not open; publish inside its `async with`")
        return self._producer


def _close_unwanted(connecting: "asyncio.Future[Producer]") -> None:
    if connecting.exception() is None:
        threading.Thread(target=connecting.result().close, name="close-unwanted").start()
