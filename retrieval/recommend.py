"""One feed: from what is known of a user to named items, or the next best answer.

The order of answers, each said in Feed.source: refined interests, coarse ones, the last known ones,
a session's, what is trending in the wanted categories, what is trending. Nothing that is merely
away fails the call: the reason goes into Feed.degraded_reason, and the answer comes from the next
step within the deadline.

A search that leaves fewer than n items after all that must not be shown was dropped is made again,
four times as deep, until there are enough or the index has no more. What is still missing is filled
up with what is trending.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

import numpy as np
import structlog

from protos.errors import DependencyDown, FreshetError
from protos.keys import compose_key
from protos.rec.v1.events_pb2 import Event
from protos.rec.v1.interests_pb2 import Interests, Tier, UserInterests
from protos.rec.v1.recommend_pb2 import Feed, ScoredItem, Source
from protos.vectors import Floats, interest_matrix
from retrieval.candidates import nearest_of_each
from retrieval.catalogue import Catalogue, CatalogueItem
from retrieval.deadlines import Deadline
from retrieval.explanations import explained
from retrieval.filters import Filter
from retrieval.interests import Known, UserCache
from retrieval.measures import ANSWER_SECONDS
from retrieval.merge import merge
from retrieval.milvus.index import MAX_LIMIT
from retrieval.milvus.wire import Hits
from retrieval.queries import Query
from retrieval.seen import ClosedSeen
from retrieval.showable import NOTHING_SEEN, Showable
from retrieval.trending import Ranking, TrendingBoard

log = structlog.get_logger(__name__)

DIVERSITY = 0.1
RESERVE_S = 0.02
"""Kept of every deadline for what follows the last search."""
NO_INTEREST = -1


class Index(Protocol):
    """What a feed wants of Milvus (retrieval.milvus.index.ItemIndex)."""

    async def search(
        self, model_version: str, queries: Floats, where: Filter, *, limit: int, timeout_s: float
    ) -> list[Hits]: ...


class SessionEncoder(Protocol):
    """What a feed wants of the encoder (retrieval.sessions)."""

    async def interests(
        self, tenant: str, events: Sequence[Event], timeout_s: float
    ) -> Interests: ...


@dataclass(frozen=True, slots=True)
class Basis:
    """Interests to search with, and how good an answer they make."""

    source: Source
    interests: Interests
    matrix: Floats  # (K, D)
    reason: str = ""


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
        *,
        search_timeout_s: float,
    ) -> None:
        self._users, self._catalogue, self._trending = users, catalogue, trending
        self._index, self._sessions = index, sessions
        self._search_timeout_s = search_timeout_s

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
        closed: ClosedSeen,
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
                    self._of_vectors(query, known, basis, showable, vectors)
                    if vectors
                    else await self._personal(query, known, basis, showable, deadline)
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

    async def _personal(
        self,
        query: Query,
        known: Known | None,
        basis: Basis,
        showable: Showable,
        deadline: Deadline,
    ) -> list[ScoredItem]:
        version = basis.interests.model_version
        candidates: list[CatalogueItem] = []
        limit = first_limit(query.n, showable.n_hidden)
        while True:
            timeout_s = min(self._search_timeout_s, deadline.remaining_s(reserve_s=RESERVE_S))
            try:
                if timeout_s <= 0:
                    raise DependencyDown("the deadline left no time to search")
                hits = await self._index.search(
                    version, basis.matrix, query.where, limit=limit, timeout_s=timeout_s
                )
            except FreshetError:
                if not candidates:
                    raise
                break
            nearest = nearest_of_each(hits, showable, query.n)
            candidates = [item for item in nearest if version in item.vectors]
            is_all = all(len(found.keys) < limit for found in hits)
            if len(candidates) >= query.n or is_all or limit >= MAX_LIMIT:
                break
            limit = min(MAX_LIMIT, 4 * limit)
        return self._merged(query, known, basis, candidates)

    def _of_vectors(
        self,
        query: Query,
        known: Known | None,
        basis: Basis,
        showable: Showable,
        vectors: Mapping[bytes, Floats],
    ) -> list[ScoredItem]:
        version = basis.interests.model_version
        candidates = [
            replace(item, vectors={version: vectors[item.key]})
            for item in showable.keep(list(vectors))
        ]
        return self._merged(query, known, basis, candidates)

    def _merged(
        self, query: Query, known: Known | None, basis: Basis, candidates: list[CatalogueItem]
    ) -> list[ScoredItem]:
        version, dim = basis.interests.model_version, basis.matrix.shape[1]
        candidates = [item for item in candidates if len(item.vectors[version]) == dim]
        if not candidates:
            return []
        flat = np.concatenate([item.vectors[version] for item in candidates])
        vectors = flat.reshape(-1, dim)  # (N, D); np.stack takes three times as long
        picks = merge(
            [item.item_id for item in candidates],
            vectors,
            basis.matrix,
            basis.interests.weights,
            n=query.n,
            diversity=DIVERSITY,
        )
        items = [scored(candidates[pick.row], pick.score, pick.interest) for pick in picks]
        if query.explain:
            recent = self._recent_vectors(known, version)
            for item, pick in zip(items, picks, strict=True):
                why = explained(pick, vectors[pick.row], basis.interests, recent)
                item.explanation.CopyFrom(why)
        return items

    def _recent_vectors(self, known: Known | None, version: str) -> dict[str, Floats]:
        """Return the newest items of the user that have a vector of this version."""
        if known is None:
            return {}
        state = known.state
        keys = [compose_key(state.tenant, recent.item_id) for recent in state.recent]
        found = self._catalogue.get_many(list(dict.fromkeys(keys)))
        return {
            item.item_id: item.vectors[version]
            for item in found
            if item is not None and version in item.vectors
        }

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
        return [scored(item, scores[item.item_id], NO_INTEREST) for item in found]


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


def first_limit(n: int, n_hidden: int) -> int:
    """Return how many hits an interest is asked for at first: enough for most users, since what a
    user has seen lies near the user's interests."""
    return min(MAX_LIMIT, 2 * n + 16 + min(n_hidden, 4 * n))


def scored(item: CatalogueItem, score: float, interest: int) -> ScoredItem:
    return ScoredItem(
        item_id=item.item_id,
        title=item.title,
        categories=item.categories,
        score=score,
        interest=interest,
    )


def _together(rankings: Sequence[Ranking]) -> Ranking:
    """Merge rankings of several categories: an item in two of them keeps its greater count."""
    best: dict[str, float] = {}
    for item_id, score in chain.from_iterable(rankings):
        best[item_id] = max(score, best.get(item_id, score))
    return tuple(sorted(best.items(), key=lambda pair: (-pair[1], pair[0])))


def _look(hits: Hits, showable: Showable, n: int, interest: int) -> list[ScoredItem]:
    scores = dict(zip(hits.keys, hits.scores, strict=True))
    return [scored(item, scores[item.key], interest) for item in showable.keep(hits.keys)[:n]]
