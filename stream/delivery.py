"""What producers of events and of items share: delivery reports, and a writer of their own or lent.

A delivery report is a standard future: threads call `result`, coroutines wrap it with
asyncio.wrap_future, and callbacks run on the Kafka client's I/O thread. Waiting for one is always
bounded.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

from infra.kafka_topics import Topics
from protos.errors import DependencyDown, FreshetError
from protos.rec.v1.events_pb2 import Receipt
from stream.kafka_writer import KafkaWriter, Writer, WriterOptions, Written

T = TypeVar("T")


class Delivery(Future[Receipt]):
    """The delivery report of one record of rec.events."""

    def __init__(self, tenant: str, user_id: str) -> None:
        super().__init__()
        self._tenant, self._user_id = tenant, user_id

    def cancel(self) -> bool:
        """What is on its way cannot be called back."""
        return False

    def finish(self, outcome: Written | FreshetError) -> None:
        if isinstance(outcome, FreshetError):
            self.set_exception(outcome)
            return
        self.set_result(
            Receipt(
                tenant=self._tenant,
                user_id=self._user_id,
                partition=outcome.partition,
                offset=outcome.offset,
            )
        )


class ItemDelivery(Future[Written]):
    """The delivery report of one item."""

    def cancel(self) -> bool:
        """What is on its way cannot be called back."""
        return False

    def finish(self, outcome: Written | FreshetError) -> None:
        if isinstance(outcome, FreshetError):
            self.set_exception(outcome)
        else:
            self.set_result(outcome)


class Deadline:
    """A moment by which an answer is due; measured from its making."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._ends_at = time.monotonic() + limit_s

    def remaining_s(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    def wait(self, future: Future[T]) -> T:
        """Return the future's result. Raises what it raises, DependencyDown when it comes late."""
        try:
            return future.result(self.remaining_s())
        except TimeoutError as error:
            raise not_confirmed(self.limit_s) from error


def not_confirmed(limit_s: float) -> DependencyDown:
    """Return the error for a record whose fate is unknown."""
    return DependencyDown(
        f"Kafka did not confirm within {limit_s:.3g} s, and may have the record all the same; "
        "publish it again, the same event_id makes that harmless"
    )


async def confirmed(delivery: Future[T], deadline: Deadline) -> T:
    """`Deadline.wait` for programs on asyncio: the event loop is not held up."""
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            return await asyncio.wrap_future(delivery)
    except TimeoutError as error:
        raise not_confirmed(deadline.limit_s) from error


class Client(ABC):
    def __init__(
        self,
        kafka: str | Writer,
        *,
        topic_prefix: str = "rec",
        options: WriterOptions | None = None,
    ) -> None:
        """Connect.

        Args:
            kafka: host:port of a broker (several with commas), or a writer that other producers of
                this process use too; then its owner closes it.

        Raises:
            DependencyDown: no broker answers.
        """
        self._options = options or WriterOptions()
        self._topics = Topics(topic_prefix)
        self._own = KafkaWriter(kafka, self._options) if isinstance(kafka, str) else None
        self._writer: Writer = self._own or kafka  # type: ignore[assignment]  # a str is excluded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def _topic(self) -> str:
        """What is written to."""

    @property
    def is_warm(self) -> bool:
        """Whether handing over with wait_s=0 returns at once; otherwise it asks Kafka for the
        topic, which the client may forget when Kafka was in trouble."""
        return self._writer.knows(self._topic)

    def warm(self) -> None:
        """Ask Kafka for the topic, so that handing over need not. Raises DependencyDown,
        NotReady."""
        self._writer.warm(self._topic)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was handed over has arrived or failed; the futures know which.

        Raises:
            DependencyDown: that takes longer than `timeout_s`.
        """
        self._writer.flush(self._limit_s(timeout_s))

    def close(self) -> None:
        """Deliver what is on its way, then disconnect."""
        if self._own is not None:
            self._own.close()

    def _limit_s(self, timeout_s: float | None) -> float:
        return self._options.timeout_s if timeout_s is None else timeout_s
