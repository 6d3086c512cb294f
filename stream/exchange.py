"""One call to the encoder and what it lacks: state by name first, contents when it asks for them.

A request names blocks by digest and items by the digest of their text. An encoder that has just
started knows neither: it answers NEED_BLOCKS or NEED_ITEMS, gets what it asked for, and is asked
again, until every user of the call has a last answer.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from protos.errors import FreshetError, TooLate
from protos.rec.v1.encoder_pb2 import (
    ItemText,
    RefreshRequest,
    RefreshResponse,
    ResultStatus,
    UserResult,
)
from protos.rec.v1.interests_pb2 import RecentItem
from stream.catalogue import Catalogue
from stream.encoder_client import Model
from stream.metrics import WorkerMetrics
from stream.schedule import Key
from stream.states import Cut, send_blocks, texts_for

MAX_ROUNDS = 4
"""The state, its blocks, its items, and one more of each while caches vanish."""

Answers = list[tuple[Key, Cut, UserResult]]
Memory = Callable[[Key, int, bytes], bytes | None]
"""(user, segment index, digest) -> the block's memory, or None when it is not kept"""


class RefreshEncoder(Protocol):
    async def refresh(self, request: RefreshRequest) -> RefreshResponse: ...


class Exchange:
    def __init__(
        self,
        encoder: RefreshEncoder,
        catalogue: Catalogue,
        memory: Memory,
        metrics: WorkerMetrics,
    ) -> None:
        self._encoder, self._catalogue = encoder, catalogue
        self._memory, self._metrics = memory, metrics

    async def answers(
        self, cuts: Mapping[Key, Cut], model: Model, is_valid: Callable[[Key, Cut], bool]
    ) -> AsyncIterator[Answers]:
        """Iterate over last answers, as they come: OK, STALE_MODEL, INVALID.

        Args:
            is_valid: whether a user's answer is still wanted; asked after each pause.

        Raises:
            FreshetError: the call failed.
            TooLate: after MAX_ROUNDS the encoder still lacks something.
        """
        pending = dict(cuts)
        items: list[ItemText] = []
        gone: list[RecentItem] = []
        for _ in range(MAX_ROUNDS):
            pending = {key: cut for key, cut in pending.items() if is_valid(key, cut)}
            if not pending:
                return
            results = await self._ask(list(pending.values()), items, gone)
            answers = [(*one, result) for one, result in zip(pending.items(), results, strict=True)]
            yield [answer for answer in answers if not _lacks(answer[2])]
            items, gone = [], []
            pending = {}
            for key, cut, result in answers:
                if _lacks(result) and is_valid(key, cut):
                    self._supply(key, cut, result, model, items, gone)
                    pending[key] = cut
        if pending:
            raise TooLate(f"the encoder still lacked state after {MAX_ROUNDS} rounds")

    async def _ask(
        self, cuts: Sequence[Cut], items: list[ItemText], gone: list[RecentItem]
    ) -> Sequence[UserResult]:
        start = time.monotonic()
        requested_us = time.time_ns() // 1000
        for cut in cuts:
            cut.requested_us = cut.requested_us or requested_us
        states = [cut.state for cut in cuts]
        request = RefreshRequest(users=states, items=items, item_gone=gone)
        response = await self._encoder.refresh(request)
        self._metrics.refresh_seconds.observe(time.monotonic() - start)
        if len(response.results) != len(cuts):
            n_results = len(response.results)
            raise FreshetError(f"the encoder gave {n_results} results for {len(cuts)} users")
        return response.results

    def _supply(
        self,
        key: Key,
        cut: Cut,
        result: UserResult,
        model: Model,
        items: list[ItemText],
        gone: list[RecentItem],
    ) -> None:
        """Prepare the next round for a user."""
        self._metrics.refreshes.labels(status_name(result)).inc()
        if result.status == ResultStatus.RESULT_STATUS_NEED_BLOCKS:
            send_blocks(
                cut,
                result.need_blocks,
                model,
                lambda index, digest: self._memory(key, index, digest),
            )
            return
        texts, missing = texts_for(result.need_items, cut.state.tenant, self._catalogue)
        items += texts
        gone += missing


def status_name(result: UserResult) -> str:
    """Return a status for people and metrics: ok, need_blocks, ..."""
    return ResultStatus.Name(result.status).removeprefix("RESULT_STATUS_").lower()


def _lacks(result: UserResult) -> bool:
    lacking = (ResultStatus.RESULT_STATUS_NEED_BLOCKS, ResultStatus.RESULT_STATUS_NEED_ITEMS)
    return result.status in lacking
