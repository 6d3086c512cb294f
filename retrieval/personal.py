"""The items of one feed, by one user's interests: searched, judged, merged, explained.

A search that leaves an interest too few items after all that must not be shown was dropped is made
again, four times as deep, until each has enough or the index has no more. So a feed depends on the
state alone: how deep the first search went makes it slower, not different.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

import numpy as np

from infra.lru import Lru
from protos.errors import DependencyDown, FreshetError
from protos.keys import compose_key
from protos.rec.v1.interests_pb2 import Interests
from protos.rec.v1.recommend_pb2 import ScoredItem, Source
from protos.vectors import Floats
from retrieval.candidates import n_wanted, nearest_of_each
from retrieval.catalogue import Catalogue, CatalogueItem
from retrieval.deadlines import Deadline
from retrieval.explanations import explained
from retrieval.filters import Filter
from retrieval.interests import Known
from retrieval.merge import merge
from retrieval.milvus.index import MAX_LIMIT
from retrieval.milvus.wire import Hits
from retrieval.new_items import NewItems
from retrieval.queries import Query
from retrieval.showable import Showable

DIVERSITY = 0.1
RESERVE_S = 0.02
"""Kept of every deadline for what follows the last search."""
SLACK = 1.25
"""Of the hits asked for: the next feed passes over a few more."""
DEEP = 1024
"""Hits of an interest that are asked for at most, unless the feed would not be full."""
MOST_GUESSED = 128
MAX_USERS = 100_000
PER_NEW_PLACE, MOST_PER_NEW_PLACE = 4, 32
"""New items that a feed chooses from for each place they have a right to, and how many are looked
at for them at most: many may be filtered out or seen."""


class Index(Protocol):
    """What a feed wants of Milvus (retrieval.milvus.index.ItemIndex)."""

    async def search(
        self, model_version: str, queries: Floats, where: Filter, *, limit: int, timeout_s: float
    ) -> list[Hits]: ...


@dataclass(frozen=True, slots=True)
class Basis:
    """Interests to search with, and how good an answer they make."""

    source: Source
    interests: Interests
    matrix: Floats  # (K, D)
    reason: str = ""


class PersonalFeeds:
    def __init__(
        self,
        index: Index,
        catalogue: Catalogue,
        new_items: NewItems,
        *,
        search_timeout_s: float,
        new_share: float,
    ) -> None:
        """
        Args:
            new_share: of a feed's places, that new items have at least, as far as there are some.
        """
        self._index, self._catalogue, self._new_items = index, catalogue, new_items
        self._search_timeout_s, self._new_share = search_timeout_s, new_share
        self._passed_over: Lru[tuple[str, str], int] = Lru(MAX_USERS)
        """Hits that a user's last feed passed over: as many lie before the next one's items."""

    async def searched(
        self,
        query: Query,
        known: Known | None,
        basis: Basis,
        showable: Showable,
        deadline: Deadline,
    ) -> list[ScoredItem]:
        """Return at most n items of the index. Raises what the search raises."""
        version = basis.interests.model_version
        candidates: list[CatalogueItem] = []
        user = (query.tenant, query.user_id)
        passed_over = self._passed_over.get(user)
        if passed_over is None:
            passed_over = guessed(showable.n_hidden)
        limit = first_limit(query.n, passed_over)
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
            nearest = nearest_of_each(hits, limit, showable, query.n)
            candidates = [item for item in nearest.items if version in item.vectors]
            self._passed_over.put(user, nearest.passed_over, 1)
            is_enough = len(candidates) >= query.n and limit >= DEEP
            if nearest.are_all or is_enough or limit >= MAX_LIMIT:
                break
            limit = deeper(limit)
        return self._merged(query, known, basis, candidates, self._new(query, basis, showable))

    def given(
        self,
        query: Query,
        known: Known | None,
        basis: Basis,
        showable: Showable,
        vectors: Mapping[bytes, Floats],
    ) -> list[ScoredItem]:
        """Return at most n items of those that are given: vectors (D,) by key (tenant/item)."""
        version = basis.interests.model_version
        candidates = [
            replace(item, vectors={version: vectors[item.key]})
            for item in showable.keep(list(vectors))
        ]
        return self._merged(query, known, basis, candidates, [])

    def _new(self, query: Query, basis: Basis, showable: Showable) -> list[CatalogueItem]:
        n_places = int(self._new_share * query.n)
        if n_places == 0:
            return []
        n_enough, n_most = PER_NEW_PLACE * n_places, MOST_PER_NEW_PLACE * n_places
        version = basis.interests.model_version
        keys = self._new_items.nearest(query.tenant, version, basis.matrix, n_most)
        n_first = 2 * n_enough
        found = showable.keep(keys[:n_first])
        if len(found) < n_enough:
            found += showable.keep(keys[n_first:])
        return found

    def _merged(
        self,
        query: Query,
        known: Known | None,
        basis: Basis,
        found: Sequence[CatalogueItem],
        new: Sequence[CatalogueItem],
    ) -> list[ScoredItem]:
        version, dim = basis.interests.model_version, basis.matrix.shape[1]
        new_keys = {item.key for item in new}
        by_key = {item.key: item for item in chain(found, new)}
        candidates = [item for item in by_key.values() if len(item.vectors.get(version, ())) == dim]
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
            are_new=np.array([item.key in new_keys for item in candidates]),
            new_share=self._new_share,
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


def first_limit(n: int, passed_over: int) -> int:
    """Return how many hits an interest is asked for at first, when so many of them cannot be
    shown."""
    return min(DEEP, int(SLACK * (n_wanted(n) + passed_over)))


def deeper(limit: int) -> int:
    """Return how many hits are asked for when so many were too few. DEEP is on every way, so that
    all ways end at the same depth."""
    return min(DEEP if limit < DEEP else MAX_LIMIT, 4 * limit)


def guessed(n_hidden: int) -> int:
    """Guess how many hits are passed over for a user who has seen so many items: they lie near his
    interests."""
    return min(MOST_GUESSED, n_hidden // 2)


def scored(item: CatalogueItem, score: float, interest: int) -> ScoredItem:
    return ScoredItem(
        item_id=item.item_id,
        title=item.title,
        categories=item.categories,
        score=score,
        interest=interest,
    )
