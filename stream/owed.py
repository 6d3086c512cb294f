"""Who is owed a refresh: users whose history, or whose model, is ahead of what was published.

Found by a scan of a partition's heads: after its assignment (its last owner may have died between a
checkpoint and a publication), and when the encoder serves another model. In the background, a few
heads at a time, and never more users waiting than the scheduler should hold for spare work.
"""

import asyncio
from collections.abc import Callable

import structlog

from stream.partition import Partition
from stream.schedule import Key
from stream.store import HEAD, head_has_events, head_watermark

log = structlog.get_logger(__name__)

MAX_SPARE = 1_000
"""A scan waits while so many users of scans do."""
_STEP = 200
_PAUSE_S = 0.05


class OwedScans:
    def __init__(self, touch: Callable[[Key, bool], None], n_spare: Callable[[], int]) -> None:
        """
        Args:
            touch: (user, whether he has events) -> None
            n_spare: how many of those touched still wait.
        """
        self._touch, self._n_spare = touch, n_spare
        self._scans: dict[int, asyncio.Task[None]] = {}

    def start(self, partition: Partition, model_version: str | None) -> None:
        """Scan a partition; a scan of it that is under way ends.

        Args:
            model_version: None while the encoder has not answered: then only users without
                events, who need no encoder, are looked for.
        """
        if (before := self._scans.pop(partition.number, None)) is not None:
            before.cancel()
        scan = asyncio.create_task(self._scan(partition, model_version))
        scan.add_done_callback(_report)
        self._scans[partition.number] = scan

    async def stop(self) -> None:
        """End all scans; after that none of them holds on to a disk."""
        scans = list(self._scans.values())
        self._scans.clear()
        for scan in scans:
            scan.cancel()
        await asyncio.gather(*scans, return_exceptions=True)

    async def _scan(self, partition: Partition, model_version: str | None) -> None:
        n_owed = 0
        for i, (stored_key, head) in enumerate(partition.stored_items(HEAD)):
            user_key = stored_key[len(HEAD) :]
            if _is_owed(partition, user_key, head, model_version):
                n_owed += 1
                self._touch((partition.number, user_key), head_has_events(head))
            if i % _STEP == 0:
                await self._rest()
        if n_owed:
            log.info("refreshes_owed", partition=partition.number, n_users=n_owed)

    async def _rest(self) -> None:
        await asyncio.sleep(0)
        while self._n_spare() > MAX_SPARE:  # noqa: ASYNC110  # nobody is late for a scan
            await asyncio.sleep(_PAUSE_S)


def _is_owed(partition: Partition, user_key: bytes, head: bytes, model_version: str | None) -> bool:
    if model_version is None and head_has_events(head):
        return False  # there is another scan as soon as the encoder answers
    published = partition.published(user_key)
    watermark = head_watermark(head)
    return published is None or not published.is_current(watermark, model_version or "")


def _report(scan: "asyncio.Task[None]") -> None:
    if not scan.cancelled() and (error := scan.exception()) is not None:
        log.error("owed_scan_crashed", exc_info=error)
