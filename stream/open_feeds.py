"""Who has a feed open, as rec.open-feeds says: they are refreshed first."""

import time
from collections.abc import Callable, Sequence

import structlog
from google.protobuf.message import DecodeError

from infra.kafka_follower import Record
from protos.rec.v1.interests_pb2 import OpenFeed

log = structlog.get_logger(__name__)

_PRUNE_EVERY = 1_000
"""Records between two looks for feeds that expired."""


class OpenFeeds:
    """Follows the topic on the follower's thread; asked from the event loop."""

    def __init__(self, on_open: Callable[[bytes], None]) -> None:
        """
        Args:
            on_open: called on the follower's thread with the user's key.
        """
        self._on_open = on_open
        self._expires_ms: dict[bytes, int] = {}
        self._n_records = 0

    def is_open(self, user_key: bytes) -> bool:
        expires_ms = self._expires_ms.get(user_key)
        return expires_ms is not None and expires_ms > _now_ms()

    def handle(self, records: Sequence[Record]) -> None:
        for record in records:
            self._apply(record)
        self._n_records += len(records)
        if self._n_records >= _PRUNE_EVERY:
            self._n_records = 0
            now_ms = _now_ms()
            for key, expires_ms in list(self._expires_ms.items()):
                if expires_ms <= now_ms:
                    self._expires_ms.pop(key, None)

    def _apply(self, record: Record) -> None:
        if record.value is None:
            self._expires_ms.pop(record.key, None)
            return
        try:
            feed = OpenFeed.FromString(record.value)
        except DecodeError:
            log.warning("open_feed_unreadable", offset=record.offset)
            return
        if feed.expires_at_ms > _now_ms():
            self._expires_ms[record.key] = feed.expires_at_ms
            self._on_open(record.key)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
