"""One feed: from what is known of a user to named items, or the next best answer.

The order of answers, each said in Feed.source: refined interests, coarse ones, the last known ones,
a session's, what is trending in the wanted categories, what is trending. Nothing that is merely
away fails the call: the reason goes into Feed.degraded_reason, and the answer comes from the next
step within the deadline.

What interests leave missing of n items is filled up with what is trending.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

import structlog

from protos.errors import DependencyDown, FreshetError
from protos.keys import compose_key
from protos.rec.v1.events_pb2 import Event
from protos.rec.v1.interests_pb2 import Interests, Tier, UserInterests
from protos.rec.v1.recommend_pb2 import Feed, ItemSource, ScoredItem, Source
from protos.vectors import Floats, interest_matrix
from retrieval.catalogue import Catalogue, CatalogueItem
from retrieval.deadlines import Deadline
from retrieval.interests import Known, UserCache
from retrieval.measures import ANSWER_SECONDS
from retrieval.milvus.index import MAX_LIMIT
from retrieval.milvus.wire import Hits
from retrieval.personal import RESERVE_S, Basis, Index, PersonalFeeds, scored
from retrieval.queries import Query
from retrieval.seen import LastSeen
from retrieval.showable import NOTHING_SEEN, Showable
from retrieval.trending import Ranking, TrendingBoard

log = structlog.get_logger(__name__)

NO_INTEREST = -1


class SessionEncoder(Protocol):
    """What a feed wants of the encoder (retrieval.sessions)."""

    async def interests(
        self, tenant: str, events: Sequence[Event], timeout_s: float
    ) -> Interests: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A feed, and when its search had ended (microseconds since the epoch)."""

    feed: Feed
    searched_us: int


class Recommender:
    def __init__(
        self,
        users: UserCache,
        catalogue: Catalogue,
        trending: TrendingBoard,
        index: Index,
        sessions: SessionEncoder,
        personal: PersonalFeeds,
    ) -> None:
        self._users, self._catalogue, self._trending = users, catalogue, trending
        self._index, self._sessions, self._personal = index, sessions, personal

    async def feed(
        self, query: Query, deadline: Deadline, *, session: Sequence[Event] = ()
    ) -> Answer:
        """Return the best feed that the deadline allows."""
        known = self._users.get(query.tenant, query.user_id)
        if session:
            consumed = {event.item_id for event in session}
            query = replace(query, excluded=query.excluded | consumed)
        showable = self._showable(query, known)
        bases, reasons = known_bases(known)
        if not bases and session:
            bases, reasons = await self._session_bases(query, session, deadline)
        return await self._answer(query, known, showable, bases, reasons, deadline)

    async def preview(
        self,
        query: Query,
        known: Known,
        closed: LastSeen,
        vectors: Mapping[bytes, Floats],
        deadline: Deadline,
    ) -> Answer:
        """Return the feed of a state that is given.

        Args:
            closed: what it had seen in its closed segments.
            vectors: (D,) by key (tenant/item); with some, these items stand in for the search.
        """
        showable = Showable(query, known.state, closed, self._catalogue)
        bases, reasons = known_bases(known)
        return await self._answer(query, known, showable, bases, reasons, deadline, vectors)

    async def _answer(
        self,
        query: Query,
        known: Known | None,
        showable: Showable,
        bases: Sequence[Basis],
        reasons: list[str],
        deadline: Deadline,
        vectors: Mapping[bytes, Floats] | None = None,
    ) -> Answer:
        start = time.perf_counter()
        feed = Feed(recommendation_id=uuid.uuid4().hex, includes_receipt=True)
        feed.encoded_offset = known.state.encoded_offset if known is not None else -1
        for basis in bases:
            try:
                items = (
                    self._personal.given(query, known, basis, showable, vectors)
                    if vectors
                    else await self._personal.searched(query, known, basis, showable, deadline)
                )
            except FreshetError as error:
                reasons.append(str(error))
                continue
            reasons += [basis.reason] if basis.reason else []
            feed.source, feed.model_version = basis.source, basis.interests.model_version
            feed.items.extend(items)
            break
        searched_us = time.time_ns() // 1000
        self._fill_up(feed, query, showable, reasons)
        feed.degraded_reason = "; ".join(dict.fromkeys(reasons))
        ANSWER_SECONDS.labels(Source.Name(feed.source)).observe(time.perf_counter() - start)
        return Answer(feed, searched_us)

    async def similar(
        self, item: CatalogueItem, query: Query, timeout_s: float
    ) -> tuple[str, list[ScoredItem]]:
        """Return the model version and the items nearest to one. Raises what the search raises."""
        showable = Showable(
            query, UserInterests(tenant=query.tenant), NOTHING_SEEN, self._catalogue
        )
        # The newest version comes last, and may not be searchable yet.
        for version, vector in reversed(item.vectors.items()):
            limit = min(MAX_LIMIT, query.n + 1 + len(query.excluded))
            try:
                (hits,) = await self._index.search(
                    version, vector[None, :], query.where, limit=limit, timeout_s=timeout_s
                )
            except DependencyDown:
                raise
            except FreshetError:
                continue
            scores = dict(zip(hits.keys, hits.scores, strict=True))
            found = [found for found in showable.keep(hits.keys) if found.key != item.key]
            return version, [scored(one, scores[one.key], 0) for one in found[: query.n]]
        return "", []

    async def looks_of(self, known: Known, n: int, timeout_s: float) -> list[list[ScoredItem]]:
        """Return for each interest the n nearest items, seen or not; nothing while Milvus is
        away."""
        state = known.state
        if known.matrix is None or n == 0:
            return []
        query = Query(state.tenant, state.user_id, n)
        showable = Showable(
            query, UserInterests(tenant=state.tenant), NOTHING_SEEN, self._catalogue
        )
        version = state.interests.model_version
        try:
            found = await self._index.search(
                version, known.matrix, query.where, limit=2 * n, timeout_s=timeout_s
            )
        except FreshetError as error:
            log.info("interests_not_shown", user_id=state.user_id, message=str(error))
            return []
        return [_look(hits, showable, n, interest) for interest, hits in enumerate(found)]

    def _showable(self, query: Query, known: Known | None) -> Showable:
        if known is None:
            empty = UserInterests(tenant=query.tenant)
            return Showable(query, empty, NOTHING_SEEN, self._catalogue)
        return Showable(query, known.state, self._users.closed_seen(known), self._catalogue)

    async def _session_bases(
        self, query: Query, session: Sequence[Event], deadline: Deadline
    ) -> tuple[list[Basis], list[str]]:
        timeout_s = deadline.remaining_s(reserve_s=RESERVE_S) / 2
        try:
            interests = await self._sessions.interests(query.tenant, session, timeout_s)
            return [Basis(Source.SOURCE_SESSION, interests, interest_matrix(interests))], []
        except FreshetError as error:
            return [], [f"the session could not be read: {error}"]

    def _fill_up(self, feed: Feed, query: Query, showable: Showable, reasons: list[str]) -> None:
        """Add what is trending until there are n items."""
        n_personal = len(feed.items)
        if n_personal >= query.n:
            return
        in_categories = _together([self._trending.top(query.tenant, c) for c in query.categories])
        feed.items.extend(self._of_ranking(in_categories, query, showable, feed))
        n_in_categories = len(feed.items) - n_personal
        feed.items.extend(self._of_ranking(self._trending.top(query.tenant), query, showable, feed))
        if n_personal == 0:
            by_category = n_in_categories > 0
            feed.source = Source.SOURCE_TRENDING_CATEGORY if by_category else Source.SOURCE_TRENDING
            feed.model_version = ""
            reasons += [] if feed.items else ["nothing that may be shown is trending yet"]
        elif len(feed.items) > n_personal:
            reasons.append(f"the search gave {n_personal} items; trending ones fill up the rest")

    def _of_ranking(
        self, ranking: Ranking, query: Query, showable: Showable, feed: Feed
    ) -> list[ScoredItem]:
        taken = {item.item_id for item in feed.items}
        scores = {item_id: score for item_id, score in ranking if item_id not in taken}
        keys = [compose_key(query.tenant, item_id) for item_id in scores]
        found = showable.keep(keys)[: query.n - len(taken)]
        items = [scored(item, scores[item.item_id], NO_INTEREST) for item in found]
        if query.explain:
            for item in items:
                item.explanation.source = ItemSource.ITEM_SOURCE_TRENDING
        return items


def known_bases(known: Known | None) -> tuple[list[Basis], list[str]]:
    """Return the interests to try, best first, and why there are none."""
    if known is None or known.state.erased:
        return [], ["nothing is known of this user yet"]
    bases: list[Basis] = []
    state = known.state
    if known.matrix is not None:
        is_refined = state.interests.tier == Tier.TIER_REFINED
        source = Source.SOURCE_REFINED if is_refined else Source.SOURCE_COARSE
        reason = "" if is_refined else "coarse interests; refined ones have not come yet"
        bases.append(Basis(source, state.interests, known.matrix, reason))
    if known.fallback is not None:
        reason = "interests of an older model or record"
        matrix = interest_matrix(known.fallback)
        bases.append(Basis(Source.SOURCE_LAST_KNOWN, known.fallback, matrix, reason))
    return bases, [] if bases else ["this user has no interests yet"]


def _together(rankings: Sequence[Ranking]) -> Ranking:
    """Merge rankings of several categories: an item in two of them keeps its greater count."""
    best: dict[str, float] = {}
    for item_id, score in chain.from_iterable(rankings):
        best[item_id] = max(score, best.get(item_id, score))
    return tuple(sorted(best.items(), key=lambda pair: (-pair[1], pair[0])))


def _look(hits: Hits, showable: Showable, n: int, interest: int) -> list[ScoredItem]:
    scores = dict(zip(hits.keys, hits.scores, strict=True))
    return [scored(item, scores[item.key], interest) for item in showable.keep(hits.keys)[:n]]
