"""The catalogue's texts before anybody asks: follows rec.items into the worker's item cache.

A replica that has just started would otherwise answer NEED_ITEMS for every item that is not in its
bundle. It reads the topic from its beginning, because it keeps nothing on disk; items that the
bundle has encoded already cost a look. Losing a text on the way costs its users one more round, not
their answer, so what cannot be encoded is logged and left out.

Threads: the follower's own reads and waits; the event loop hands texts to the thread that computes.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter
from tenacity import retry, retry_if_exception_type, wait_random

from encoder.compute import NamedText
from encoder.worker import Worker
from infra.kafka_follower import Follower, Record
from protos.errors import InvalidInput, NotReady, Overloaded
from protos.keys import checked_id, checked_tenant, compose_key, item_text, text_digest
from protos.rec.v1.items_pb2 import Item

BATCH = 256
"""Items that are handed over together; requests of others come in between."""

log = structlog.get_logger(__name__)

READ = Counter("freshet_encoder_item_records_total", "Records of rec.items.", ["outcome"])


class ItemFeed:
    """Make it inside the running loop."""

    def __init__(self, worker: Worker, bootstrap: str, topic: str) -> None:
        self._worker, self._topic = worker, topic
        self._loop = asyncio.get_running_loop()
        self._caught_up = asyncio.Event()
        self._follower = Follower(
            bootstrap,
            topic,
            self._take,
            on_failure=self._fail,
            on_caught_up=lambda: self._call(self._caught_up.set),
        )
        self.failed: asyncio.Future[None] = self._loop.create_future()
        """Ends with NotReady when the topic can no longer be followed."""

    async def catch_up(self) -> None:
        """Start, and return once everything that stood in the topic is known."""
        self._follower.start()
        await self._caught_up.wait()

    async def stop(self) -> None:
        """Stop following; the worker still computes until then."""
        await asyncio.to_thread(self._follower.stop)
        self.failed.cancel()

    def _take(self, records: Sequence[Record]) -> None:
        """Encode a batch; on the follower's thread."""
        texts = list(newest_texts(records))
        for first in range(0, len(texts), BATCH):
            some = texts[first : first + BATCH]
            try:
                asyncio.run_coroutine_threadsafe(self._learn(some), self._loop).result()
            except Exception:
                READ.labels("not_encoded").inc(len(some))
                log.exception("items_not_encoded", n_items=len(some), first=some[0].key)

    # It waits for the queue for as long as it takes: the topic keeps what comes meanwhile.
    @retry(retry=retry_if_exception_type(Overloaded), wait=wait_random(0.1, 0.3))
    async def _learn(self, texts: Sequence[NamedText]) -> None:
        await self._worker.learn(texts)

    def _fail(self, error: BaseException) -> None:
        def end() -> None:
            if not self.failed.done():
                self.failed.set_exception(
                    NotReady(f"{self._topic} can no longer be followed: {error}")
                )

        self._call(end)

    def _call(self, what: Callable[[], None]) -> None:
        """Have something done on the event loop."""
        self._loop.call_soon_threadsafe(what)


def newest_texts(records: Sequence[Record]) -> Iterator[NamedText]:
    """Yield the text of each item at its newest record; deletions and bad records have none."""
    for record in {record.key: record for record in records}.values():
        if record.value is None:
            READ.labels("deleted").inc()
            continue
        try:
            named = _named(record)
        except InvalidInput as error:
            READ.labels("refused").inc()
            log.warning(
                "record_refused",
                partition=record.partition,
                offset=record.offset,
                message=str(error),
            )
            continue
        READ.labels("read").inc()
        yield named


def _named(record: Record) -> NamedText:
    try:
        item = Item.FromString(record.value or b"")
    except DecodeError as error:
        raise InvalidInput("the value is no Item") from error
    tenant = checked_tenant(item.tenant)
    checked_id(item.item_id, "item_id")
    if record.key != compose_key(tenant, item.item_id):
        raise InvalidInput("the key names another item than the value")
    text = item_text(item.title, item.text)
    if not text:
        raise InvalidInput("neither text nor title; it cannot be recommended")
    return NamedText((tenant, item.item_id, text_digest(text)), text)
