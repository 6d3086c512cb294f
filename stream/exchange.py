"""One call to the encoder and what it lacks: state by name first, contents when it asks for them.

A request names blocks by digest and items by the digest of their text. An encoder that has just
started knows neither: it answers NEED_BLOCKS or NEED_ITEMS, gets what it asked for, and is asked
again, until every user of the call has a last answer.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
"""Of a user: the state, its blocks, its items, and one more while caches vanish."""
MAX_TEXTS = 1000
"""Texts a call, as many as an encoder takes; a user's own are far fewer."""

ItemName = tuple[str, str]
"""(tenant, item_id)"""
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
        pending = {key: _Asked(cut) for key, cut in cuts.items()}
        n_given_up = 0
        while pending := {key: one for key, one in pending.items() if is_valid(key, one.cut)}:
            some = _fitting(pending)
            results = await self._ask([pending[key] for key in some])
            answers = list(zip(some, results, strict=True))
            yield [(key, pending[key].cut, one) for key, one in answers if not _lacks(one)]
            for key, result in answers:
                asked = pending.pop(key)
                if not _lacks(result) or not is_valid(key, asked.cut):
                    continue
                asked.n_rounds += 1
                if asked.n_rounds == MAX_ROUNDS:
                    n_given_up += 1
                    continue
                self._supply(key, asked, result, model)
                pending[key] = asked
        if n_given_up:
            raise TooLate(
                f"the encoder still lacked state of {n_given_up} users after {MAX_ROUNDS} rounds"
            )

    async def _ask(self, asked: Sequence["_Asked"]) -> Sequence[UserResult]:
        start = time.monotonic()
        requested_us = time.time_ns() // 1000
        texts: dict[ItemName, ItemText] = {}
        gone: dict[ItemName, RecentItem] = {}
        for one in asked:
            one.cut.requested_us = one.cut.requested_us or requested_us
            texts |= one.texts
            gone |= one.gone
        states = [one.cut.state for one in asked]
        request = RefreshRequest(users=states, items=texts.values(), item_gone=gone.values())
        response = await self._encoder.refresh(request)
        self._metrics.refresh_seconds.observe(time.monotonic() - start)
        if len(response.results) != len(asked):
            n_results = len(response.results)
            raise FreshetError(f"the encoder gave {n_results} results for {len(asked)} users")
        return response.results

    def _supply(self, key: Key, asked: "_Asked", result: UserResult, model: Model) -> None:
        """Prepare the next round for a user."""
        self._metrics.refreshes.labels(status_name(result)).inc()
        cut = asked.cut
        if result.status == ResultStatus.RESULT_STATUS_NEED_BLOCKS:
            send_blocks(
                cut,
                result.need_blocks,
                model,
                lambda index, digest: self._memory(key, index, digest),
            )
            return
        texts, gone = texts_for(result.need_items, cut.state.tenant, self._catalogue)
        asked.texts |= {(cut.state.tenant, text.item_id): text for text in texts}
        asked.gone |= {(cut.state.tenant, item.item_id): item for item in gone}


@dataclass(slots=True)
class _Asked:
    """A user, and what was asked for of his. It is sent again in later rounds: what an encoder
    knew a round ago may have left its cache."""

    cut: Cut
    texts: dict[ItemName, ItemText] = field(default_factory=dict)
    gone: dict[ItemName, RecentItem] = field(default_factory=dict)
    n_rounds: int = 0


def _fitting(pending: Mapping[Key, _Asked]) -> list[Key]:
    """Return users, the first at least, whose texts fit into one call."""
    found: list[Key] = []
    n_texts = 0
    for key, one in pending.items():
        n_texts += len(one.texts)
        if found and n_texts > MAX_TEXTS:
            break
        found.append(key)
    return found


def status_name(result: UserResult) -> str:
    """Return a status for people and metrics: ok, need_blocks, ..."""
    return ResultStatus.Name(result.status).removeprefix("RESULT_STATUS_").lower()


def _lacks(result: UserResult) -> bool:
    lacking = (ResultStatus.RESULT_STATUS_NEED_BLOCKS, ResultStatus.RESULT_STATUS_NEED_ITEMS)
    return result.status in lacking
