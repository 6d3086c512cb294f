"""Read your own write: wait until a user's interests include a record, within the deadline."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from protos.errors import InvalidInput
from protos.rec.v1.events_pb2 import Receipt
from retrieval.changes import Changes
from retrieval.deadlines import Deadline
from retrieval.interests import UserCache, user_key
from retrieval.measures import RECEIPT_SECONDS
from retrieval.queries import Query

log = structlog.get_logger(__name__)

ANSWER_RESERVE = 0.25
"""Share of the deadline kept for the answer itself; at most MAX_RESERVE_S."""
MAX_RESERVE_S = 0.2


class LogEnd(Protocol):
    async def end_offset(self, partition: int) -> int | None:
        """Return the offset behind the newest record, or None when Kafka does not say."""
        ...


class KafkaLogEnd:
    """Asks Kafka, one question at a time."""

    def __init__(self, bootstrap: str, topic: str, *, timeout_s: float = 1.0) -> None:
        self._bootstrap, self._topic, self._timeout_s = bootstrap, topic, timeout_s
        self._consumer: KafkaConsumer | None = None
        # One thread, as the consumer wants it; a question whose caller gave up is not asked.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-end")

    async def end_offset(self, partition: int) -> int | None:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._ask, partition)
        except KafkaError as error:
            log.warning("log_end_unknown", topic=self._topic, message=str(error))
            return None

    def _ask(self, partition: int) -> int:
        if self._consumer is None:
            self._consumer = KafkaConsumer(
                bootstrap_servers=self._bootstrap, enable_auto_commit=False
            )
        at = TopicPartition(self._topic, partition)
        ends = self._consumer.end_offsets([at], timeout_ms=int(self._timeout_s * 1000))
        return int(ends[at])

    async def close(self) -> None:
        if self._consumer is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._consumer.close)
        self._thread.shutdown(wait=False)


class Receipts:
    def __init__(self, users: UserCache, changes: Changes, log_end: LogEnd) -> None:
        self._users, self._changes, self._log_end = users, changes, log_end

    async def wait(self, query: Query, receipt: Receipt, deadline: Deadline) -> bool:
        """Wait until the user's interests include the record; return whether they do.

        Leaves a share of the deadline for the answer. Raises InvalidInput for a record that does
        not exist (yet): Kafka is asked only when the record is not included already.
        """
        start = time.perf_counter()
        met = self._is_met(query, receipt)
        if not met:
            await self._check_exists(receipt, deadline)
            met = await self._wait(query, receipt, deadline)
        RECEIPT_SECONDS.labels(str(met).lower()).observe(time.perf_counter() - start)
        return met

    async def _check_exists(self, receipt: Receipt, deadline: Deadline) -> None:
        try:
            async with asyncio.timeout(deadline.remaining_s() / 2):
                end = await self._log_end.end_offset(receipt.partition)
        except TimeoutError:
            return
        if end is not None and receipt.offset >= end:
            raise InvalidInput(
                f"after names record {receipt.offset} of partition {receipt.partition}, which ends "
                f"at {end}: no such event was accepted here"
            )

    async def _wait(self, query: Query, receipt: Receipt, deadline: Deadline) -> bool:
        reserve_s = min(MAX_RESERVE_S, ANSWER_RESERVE * deadline.remaining_s())
        try:
            async with asyncio.timeout(deadline.remaining_s(reserve_s=reserve_s)):
                with self._changes.watch(user_key(query.tenant, query.user_id)) as changed:
                    while not self._is_met(query, receipt):
                        await changed.wait()
                        changed.clear()
        except TimeoutError:
            return False
        return True

    def _is_met(self, query: Query, receipt: Receipt) -> bool:
        known = self._users.get(query.tenant, query.user_id)
        return known is not None and known.state.encoded_offset >= receipt.offset
