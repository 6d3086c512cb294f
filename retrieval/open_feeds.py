"""Tells the stream whose feed is open (rec.open-feeds), so that these users are refreshed first.

A note expires by itself: it is written when a user's first feed opens, renewed while one is open,
and taken back when the last one closes. It is a hint: while Kafka is away nothing waits for it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError

from infra.kafka_topics import key_partition
from protos.keys import compose_key
from protos.rec.v1.interests_pb2 import OpenFeed

log = structlog.get_logger(__name__)

EXPIRY_S = 60.0
RENEW_S = 20


class Notes(Protocol):
    """Where notes go."""

    def send(self, key: bytes, value: bytes | None) -> None:
        """Send without waiting; None takes the note back."""
        ...


class KafkaNotes:
    """Writes to rec.open-feeds from a thread of its own; failures are logged, not raised."""

    def __init__(self, bootstrap: str, topic: str, n_partitions: int) -> None:
        self._bootstrap, self._topic, self._n_partitions = bootstrap, topic, n_partitions
        self._producer: KafkaProducer | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="open-feeds")

    def send(self, key: bytes, value: bytes | None) -> None:
        self._thread.submit(self._send, key, value)

    def close(self) -> None:
        """Send what is queued, for at most two seconds."""
        self._thread.submit(self._close).result(timeout=3)
        self._thread.shutdown(wait=False)

    def _send(self, key: bytes, value: bytes | None) -> None:
        try:
            if self._producer is None:
                self._producer = KafkaProducer(
                    bootstrap_servers=self._bootstrap, linger_ms=5, max_block_ms=1000
                )
            partition = key_partition(key, self._n_partitions)
            self._producer.send(self._topic, key=key, value=value, partition=partition)
        except KafkaError as error:
            log.warning("open_feed_not_announced", topic=self._topic, message=str(error))

    def _close(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=2)


class OpenFeeds:
    """Counts open feeds by user; on the event loop."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._open: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def announced(self, tenant: str, user_id: str) -> Iterator[None]:
        """Count a feed as open for the length of the block."""
        user = (tenant, user_id)
        self._open[user] += 1
        if self._open[user] == 1:
            self._announce(user)
        try:
            yield
        finally:
            self._open[user] -= 1
            if self._open[user] == 0:
                del self._open[user]
                self._notes.send(compose_key(*user), None)

    async def renew_forever(self) -> None:
        """Announce everybody every RENEW_S seconds, some each second: all at once would hold up
        pushes."""
        while True:
            users = list(self._open)
            for second in range(RENEW_S):
                for user in users[second::RENEW_S]:
                    if user in self._open:
                        self._announce(user)
                await asyncio.sleep(1)

    def _announce(self, user: tuple[str, str]) -> None:
        tenant, user_id = user
        expires_at_ms = int((time.time() + EXPIRY_S) * 1000)
        note = OpenFeed(tenant=tenant, user_id=user_id, expires_at_ms=expires_at_ms)
        self._notes.send(compose_key(tenant, user_id), note.SerializeToString())
