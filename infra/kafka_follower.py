"""Follow a compacted topic: every record once from a given point on, then as they come.

A follower belongs to no consumer group: each process reads all of the topic. It runs in a thread
of its own, because kafka-python blocks, and hands over batches there; it never lags behind a slow
handler by more than one batch.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from kafka import KafkaConsumer, TopicPartition

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None
    """None is a deletion."""


Handler = Callable[[Sequence[Record]], None]
"""Called on the follower's thread, in the order of each partition. At least once: a restart from
`start_at` repeats what was not remembered. An exception stops the follower and reaches
`on_failure`."""


class Follower:
    def __init__(
        self,
        bootstrap: str,
        topic: str,
        handle: Handler,
        *,
        on_failure: Callable[[BaseException], None],
        on_caught_up: Callable[[], None] | None = None,
        start_at: Mapping[int, int] | None = None,
        poll_ms: int = 500,
    ) -> None:
        """
        Args:
            start_at: first offset to read of each partition; a partition not named is read from
            its beginning.
            on_failure: called once, from the follower's thread, when it cannot go on.
            on_caught_up: called once, from the follower's thread, when `caught_up` is set.
        """
        self._bootstrap, self._topic, self._handle = bootstrap, topic, handle
        self._on_failure, self._on_caught_up = on_failure, on_caught_up
        self._start_at, self._poll_ms = dict(start_at or {}), poll_ms
        self._stopping = threading.Event()
        self.caught_up = threading.Event()
        """Set once everything that was in the topic at the start has been handled."""
        self._thread = threading.Thread(target=self._run, name=f"follow-{topic}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop after the batch in hand; one that was never started, too."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:
            log.exception("follower_failed", topic=self._topic)
            self._on_failure(error)

    def _follow(self) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=self._poll_ms,
            max_poll_records=2000,
        )
        try:
            partitions = self._assign(consumer)
            ends = consumer.end_offsets(partitions)
            while not self._stopping.is_set():
                polled = consumer.poll(timeout_ms=self._poll_ms)
                for records in polled.values():
                    self._handle([_record(record) for record in records])
                if not self.caught_up.is_set() and _reached(consumer, ends):
                    self.caught_up.set()
                    if self._on_caught_up is not None:
                        self._on_caught_up()
        finally:
            consumer.close()

    def _assign(self, consumer: KafkaConsumer) -> list[TopicPartition]:
        numbers = consumer.partitions_for_topic(self._topic)
        if not numbers:
            raise LookupError(f"topic {self._topic} does not exist")
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        for partition in partitions:
            if partition.partition in self._start_at:
                consumer.seek(partition, self._start_at[partition.partition])
        return partitions


def _reached(consumer: KafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return all(consumer.position(partition) >= end for partition, end in ends.items())


def _record(record: object) -> Record:
    return Record(
        record.partition,  # type: ignore[attr-defined]  # kafka-python has no types
        record.offset,  # type: ignore[attr-defined]
        record.timestamp,  # type: ignore[attr-defined]
        record.key or b"",  # type: ignore[attr-defined]
        record.value,  # type: ignore[attr-defined]
    )
