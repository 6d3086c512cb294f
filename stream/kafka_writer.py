"""Durable records into Kafka: the one seam between our producers and kafka-python.

Idempotent, acks=all. A record handed over stays on its way until the broker has it, also through an
outage; how long to wait for its word is the caller's choice. (The client never gives a record up:
in kafka-python 3.0.12 an idempotent producer that expires a record once sent drops its producer id
and asks for no other, so nothing leaves it ever again.) Three things are ours, because
kafka-python has them not:

* A bound. Its buffer grows without one, so bytes in flight are counted here: `submit` waits for
  room up to `wait_s`, and then raises Overloaded.
* Partitions by Kafka's murmur2, remembered by key. In pure Python the hash and the look-up of the
  topic cost a third of a send, and the same users come again.
* Errors of our tree, with what to do next.

Delivery: what `on_done` reports as written is durable, once (the broker drops the client's own
retries). A failure means unknown, not absent: the record may have arrived all the same.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from kafka import KafkaProducer
from kafka.errors import (
    AuthorizationError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from infra.kafka_broker import await_broker
from infra.kafka_topics import key_partition
from protos.errors import DependencyDown, FreshetError, InvalidInput, NotReady, Overloaded

RECORD_OVERHEAD_BYTES = 1024
"""Futures and bookkeeping of a record in flight, on top of its key and value."""
N_REMEMBERED_KEYS = 65_536
FOREVER_MS = 365 * 24 * 3600 * 1000
CLOSE_S = 5.0
RETRY_AFTER_S = 0.2
"""About what a full default buffer takes to drain into a broker on the same machine."""


@dataclass(frozen=True, slots=True)
class WriterOptions:
    timeout_s: float = 10.0
    """How long to wait for Kafka where the caller does not say: to connect, for room, for its
    word."""
    linger_ms: int = 1
    """How long a record waits for company. Under load records batch by themselves."""
    buffer_bytes: int = 32 * 2**20
    client_id: str = "freshet-producer"


@dataclass(frozen=True, slots=True)
class Written:
    """Where a durable record stands."""

    partition: int
    offset: int


OnDone = Callable[[Written | FreshetError], None]
"""Called once for each record, on the client's I/O thread: be quick, and do not raise."""


class Writer(Protocol):
    """What producers need of Kafka; tests bring their own."""

    def knows(self, topic: str) -> bool:
        """Whether a `submit` to the topic with wait_s=0 returns at once. Never waits itself."""

    def warm(self, *topics: str) -> None:
        """Learn the partitions of topics, so that `submit` need not ask Kafka first; this asks.

        Raises:
            DependencyDown, NotReady: Kafka does not answer, or has no such topic.
        """

    def submit(
        self, topic: str, key: bytes, value: bytes | None, on_done: OnDone, *, wait_s: float
    ) -> None:
        """Hand over a record; order is kept within a partition.

        Raises:
            Overloaded: the buffer was full for `wait_s`.
            InvalidInput: the record is larger than the broker takes.
            DependencyDown, NotReady: Kafka does not answer, or has no such topic.
        """

    def flush(self, timeout_s: float) -> None:
        """Wait until everything handed over before is done. Raises DependencyDown."""

    def close(self) -> None:
        """Flush, let go of the connections, and fail what is left. Raises DependencyDown then."""

    @property
    def bytes_in_flight(self) -> int: ...


class KafkaWriter:
    """A `Writer` on a real Kafka. Thread-safe; one a process is enough."""

    def __init__(self, bootstrap: str, options: WriterOptions | None = None) -> None:
        """Connect. Raises DependencyDown when no broker answers within `options.timeout_s`."""
        self._bootstrap, self._options = bootstrap, options or WriterOptions()
        self._budget = ByteBudget(self._options.buffer_bytes)
        self._n_partitions: dict[str, int] = {}
        self._partition_of = lru_cache(N_REMEMBERED_KEYS)(key_partition)
        await_broker(bootstrap, self._options.timeout_s)
        try:
            self._kafka = KafkaProducer(**_client_config(bootstrap, self._options))
        except KafkaError as error:
            raise self._translated(error) from error

    def knows(self, topic: str) -> bool:
        # The client forgets a topic that a broker once answers with an error, and its send then
        # waits for an answer that names it; nothing public tells.
        known = self._kafka._metadata.partitions_for_topic(topic)
        return topic in self._n_partitions and known is not None

    def warm(self, *topics: str) -> None:
        for topic in topics:
            self._count_partitions(topic)

    def submit(
        self, topic: str, key: bytes, value: bytes | None, on_done: OnDone, *, wait_s: float
    ) -> None:
        n_partitions = self._n_partitions.get(topic) or self._count_partitions(topic)
        n_bytes = len(key) + len(value or b"") + RECORD_OVERHEAD_BYTES
        self._budget.take(n_bytes, wait_s)
        partition = self._partition_of(key, n_partitions)
        try:
            future = self._kafka.send(topic, key=key, value=value, partition=partition)
        except (KafkaError, ValueError) as error:
            self._budget.give_back(n_bytes)
            raise self._translated(error) from error

        def succeed(metadata: Any) -> None:
            self._budget.give_back(n_bytes)
            on_done(Written(metadata.partition, metadata.offset))

        def fail(error: Exception) -> None:
            self._budget.give_back(n_bytes)
            on_done(self._translated(error))

        future.add_callback(succeed)
        future.add_errback(fail)

    def flush(self, timeout_s: float) -> None:
        try:
            self._kafka.flush(timeout_s)
        except KafkaError as error:
            raise self._translated(error) from error

    def close(self) -> None:
        try:
            self._kafka.flush(self._options.timeout_s)
        except KafkaError as error:
            # Only so do the records left fail: the public close waits for them again.
            self._kafka._sender.force_close()
            raise self._translated(error) from error
        finally:
            self._kafka.close(timeout=CLOSE_S)

    @property
    def bytes_in_flight(self) -> int:
        return self._budget.used_bytes

    def _count_partitions(self, topic: str) -> int:
        try:
            count = len(self._kafka.partitions_for(topic))
        except KafkaTimeoutError as error:  # the client tells an unknown topic and silence alike
            raise no_partitions(topic, f"Kafka at {self._bootstrap}") from error
        except KafkaError as error:
            raise self._translated(error) from error
        self._n_partitions[topic] = count
        return count

    def _translated(self, error: Exception) -> FreshetError:
        match error:
            case MessageSizeTooLargeError() | RecordListTooLargeError():
                return InvalidInput(f"the record is larger than Kafka takes; send less ({error})")
            case IllegalStateError():
                return DependencyDown(
                    "this producer is closed; what Kafka had not confirmed by then may be missing, "
                    "publish it again with another"
                )
            case AuthorizationError():
                return NotReady(f"Kafka at {self._bootstrap} refuses this client: {error}")
            case ValueError():
                return NotReady(f"the topic changed while in use; restart this process ({error})")
        return DependencyDown(f"Kafka at {self._bootstrap} does not answer; is it up? ({error})")


def _client_config(bootstrap: str, options: WriterOptions) -> dict[str, object]:
    timeout_ms = round(options.timeout_s * 1000)
    return {
        "bootstrap_servers": bootstrap.split(","),
        "client_id": options.client_id,
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": options.linger_ms,
        "batch_size": 128 * 1024,
        "allow_auto_create_topics": False,
        "bootstrap_timeout_ms": timeout_ms,
        "max_block_ms": timeout_ms,
        "request_timeout_ms": max(1000, timeout_ms // 2),
        "delivery_timeout_ms": FOREVER_MS,
        # The default of 30 s would outlast the deadline of whoever waits for a broker's return.
        "reconnect_backoff_max_ms": 1000,
    }


class ByteBudget:
    """Bytes in flight, at most so many; one record always fits."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._n_waiting = 0
        self.used_bytes = 0

    def take(self, n_bytes: int, wait_s: float) -> None:
        with self._lock:
            if not self._has_room(n_bytes):
                self._wait_for_room(n_bytes, wait_s)
            self.used_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        with self._lock:
            self.used_bytes -= n_bytes
            if self._n_waiting:
                self._freed.notify_all()

    def _has_room(self, n_bytes: int) -> bool:
        return self.used_bytes == 0 or self.used_bytes + n_bytes <= self._limit_bytes

    def _wait_for_room(self, n_bytes: int, wait_s: float) -> None:
        self._n_waiting += 1
        try:
            has_room = self._freed.wait_for(lambda: self._has_room(n_bytes), wait_s)
        finally:
            self._n_waiting -= 1
        if not has_room:
            raise no_room(self.used_bytes)


def no_room(used_bytes: int) -> Overloaded:
    """Return the error for a record that found the buffer full for too long."""
    return Overloaded(
        f"{used_bytes:,} bytes wait for Kafka, and no more fit; send slower",
        retry_after_s=RETRY_AFTER_S,
    )


def no_partitions(topic: str, kafka: str = "Kafka") -> DependencyDown:
    """Return the error for a record whose topic Kafka did not name in time."""
    return DependencyDown(
        f"{kafka} named no partitions of {topic}; is it up? If it is, the topic is missing: "
        "`python -m stream.gateway` and `freshet up` create it"
    )
