"""One open feed: the feed now, then again whenever it changes.

Latest state wins: while a push is under way or its minimum interval runs, news only set a flag, and
the next push reads the newest state. Whoever is still on the trending list is also told when that
moves, though not more often than every two seconds, and only when their own feed is another one.

Few feeds are made at once (turns.py). A reader who opens one and waits for his turn is shown what
is trending meanwhile. Nobody keeps a turn while a push is on its way to a slow reader.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from protos.rec.v1.interests_pb2 import Hop
from protos.rec.v1.recommend_pb2 import Feed, Source, StreamFeedResponse
from retrieval.changes import Changes, trending_key
from retrieval.deadlines import Deadline
from retrieval.interests import Known, UserCache, user_key
from retrieval.measures import HOP_SECONDS, PUSH_SECONDS, PUSHES
from retrieval.queries import Query
from retrieval.recommend import Recommender
from retrieval.turns import Rank, Turns

HEARTBEAT_S = 15.0
TRENDING_INTERVAL_S = 2.0
PUSH_DEADLINE_S = 2.0
PATIENCE_S = 1.0
"""A reader who opens a feed waits as long for his turn before he is shown something else."""

_TRENDING = (Source.SOURCE_TRENDING, Source.SOURCE_TRENDING_CATEGORY)


class LiveFeed:
    """The pushes of one StreamFeed call; one consumer."""

    def __init__(
        self,
        query: Query,
        users: UserCache,
        recommender: Recommender,
        changes: Changes,
        turns: Turns,
        *,
        min_interval_s: float = 0.0,
        heartbeat_s: float = HEARTBEAT_S,
        patience_s: float = PATIENCE_S,
        resume_token: str = "",
    ) -> None:
        """
        Args:
            resume_token: of the push that the caller still shows; "" for none.
        """
        self._query, self._users, self._recommender = query, users, recommender
        self._changes, self._turns = changes, turns
        self._min_interval_s, self._heartbeat_s = min_interval_s, heartbeat_s
        self._patience_s = patience_s
        self._resume_token = resume_token
        self._sequence = 0
        self._order: tuple[int, int, int, int] | None = None
        self._last: Feed | None = None
        self._is_stopgap = False
        """Whether the last push was made without a turn."""

    async def pushes(self, closing: asyncio.Event) -> AsyncIterator[StreamFeedResponse]:
        """Yield until `closing` is set; whoever sets it also announces the user's key."""
        tenant, user_id = self._query.tenant, self._query.user_id
        with (
            self._changes.watch(user_key(tenant, user_id)) as news,
            self._changes.watch(trending_key(tenant)) as trend,
        ):
            has_news = not self._resumes()
            while not closing.is_set():
                news.clear()
                trend.clear()
                push = await self._next(closing) if has_news or self._last is not None else None
                if push is not None:
                    yield push
                    await _set_within(closing, self._min_interval_s)
                elif not has_news:
                    yield StreamFeedResponse(heartbeat=True, sequence=self._sequence)
                has_news = self._is_stopgap or await self._wait(news, trend)

    async def _wait(self, news: asyncio.Event, trend: asyncio.Event) -> bool:
        """Wait for something to look at; False when it is time for a heartbeat."""
        if not self._is_trending:
            return await _set_within(news, self._heartbeat_s)
        until_s = time.monotonic() + self._heartbeat_s
        while (left_s := until_s - time.monotonic()) > 0:
            if await _set_within(news, min(TRENDING_INTERVAL_S, left_s)) or trend.is_set():
                return True
        return False

    def _resumes(self) -> bool:
        """Return whether the caller shows the latest state already."""
        known = self._known()
        return known is not None and self._resume_token == _token(known)

    async def _next(self, closing: asyncio.Event) -> StreamFeedResponse | None:
        """Return what to push, or None when nothing that the reader sees has changed."""
        rank = self._rank()
        if rank is None:
            return None
        with self._turns.asked(rank) as turn:
            await asyncio.wait([turn], timeout=self._patience_s if self._last is None else None)
            if closing.is_set():
                return None
            self._is_stopgap = not turn.done()
            return await self._made(Deadline.after(0.0 if self._is_stopgap else PUSH_DEADLINE_S))

    def _rank(self) -> Rank | None:
        """Return how soon to make a feed; None: the reader has the latest.

        A degraded feed is made again at each heartbeat: what was away may be back.
        """
        if self._last is None or self._is_stopgap:
            return Rank.OPENED
        if self._order != _order(self._known()):
            return Rank.NEWS
        return Rank.AGAIN if self._last.degraded_reason else None

    async def _made(self, deadline: Deadline) -> StreamFeedResponse | None:
        known = self._known()
        order = _order(known)
        answer = await self._recommender.feed(self._query, deadline)
        is_news = self._last is not None and self._order != order
        if self._last is not None and not is_news and _ids(self._last) == _ids(answer.feed):
            return None
        push = _push(known, answer.feed, answer.searched_us, is_news=is_news)
        push.sequence = self._sequence
        self._order, self._last = order, answer.feed
        self._sequence += 1
        return push

    def _known(self) -> Known | None:
        return self._users.get(self._query.tenant, self._query.user_id)

    @property
    def _is_trending(self) -> bool:
        return self._last is not None and self._last.source in _TRENDING


def _push(
    known: Known | None, feed: Feed, searched_us: int, *, is_news: bool
) -> StreamFeedResponse:
    """Make a push; only one that brings another state than the last came because of its cause."""
    push = StreamFeedResponse(feed=feed)
    if known is not None and not feed.degraded_reason:  # a better one may come at any time
        push.resume_token = _token(known)
    pushed_us = time.time_ns() // 1000
    if known is not None and known.state.HasField("cause"):
        push.cause.CopyFrom(known.state.cause)
        push.hops.extend(known.state.hops)
        push.hops.append(Hop(name="searched", at_us=searched_us))
        push.hops.append(Hop(name="pushed", at_us=pushed_us))
        if is_news:
            push.since_event_ms = pushed_us / 1000 - known.state.cause.accepted_ms
            _measure(push)
    PUSHES.labels(Source.Name(feed.source)).inc()
    return push


def _order(known: Known | None) -> tuple[int, int, int, int] | None:
    return known.order if known is not None else None


def _token(known: Known) -> str:
    """Name a state: two of one user are the same when their orders are."""
    return "-".join(map(str, known.order))


def _measure(push: StreamFeedResponse) -> None:
    PUSH_SECONDS.observe(max(0.0, push.since_event_ms / 1000))
    for before, hop in zip(push.hops, push.hops[1:], strict=False):
        HOP_SECONDS.labels(hop.name).observe(max(0.0, (hop.at_us - before.at_us) / 1e6))


def _ids(feed: Feed) -> list[str]:
    return [item.item_id for item in feed.items]


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
