"""What is trending: counts by action weight that decay, per tenant, category and partition.

A count halves in `half_life_ms` (3 days). Instead of decaying all counts all the time, each event
adds weight * 2^((its time - a fixed epoch) / half-life): the order of such scores never changes,
and a list is decayed to a moment by one division when it is published. The epoch moves forward
before the numbers grow large.

The time of an event here is when the broker accepted it, so that a list is a function of the log.
Linear in the counts: a list published before is simply added (`merge`), and a reader adds up the
partitions. After a crash up to a few seconds of events may count twice or not at all: trending is
approximate, histories are not.

Memory is bounded: at most `n_counted` items a list (the lowest half goes when it is full) and
`n_lists` lists (further categories are not counted).
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from protos.rec.v1.interests_pb2 import TrendingItem, TrendingList

HALF_LIFE_MS = 3 * 24 * 3600 * 1000
N_PUBLISHED = 200
_REBASE_HALF_LIVES = 200
"""2^200 * weights is far from the largest float, 2^1023."""


@dataclass(slots=True)
class _Counts:
    scores: dict[str, float] = field(default_factory=dict)
    changed: bool = True


class Trending:
    """One partition's lists. Pure but for its own memory; one owner."""

    def __init__(
        self,
        partition: int,
        *,
        half_life_ms: int = HALF_LIFE_MS,
        n_counted: int = 2_000,
        n_lists: int = 2_000,
    ) -> None:
        self._partition, self._half_life_ms = partition, half_life_ms
        self._n_counted, self._n_lists = n_counted, n_lists
        self._lists: dict[tuple[str, str], _Counts] = {}
        self._epoch_ms: int | None = None
        self._newest_ms = 0

    def add(
        self, tenant: str, item_id: str, categories: Iterable[str], weight: float, accepted_ms: int
    ) -> None:
        """Count one event, in the list of all and in each of its item's categories."""
        if weight:
            score = weight * self._growth(accepted_ms)
            self._add(tenant, "", item_id, score)
            for category in categories:
                if category:
                    self._add(tenant, category, item_id, score)

    def merge(self, published: TrendingList) -> None:
        """Add a list that was published before."""
        growth = self._growth(published.as_of_ms)
        for item in published.items:
            self._add(published.tenant, published.category, item.item_id, item.score * growth)

    def take_changed(self) -> Iterator[TrendingList]:
        """Return the lists that changed since the last call, decayed to the newest event."""
        for (tenant, category), counts in self._lists.items():
            if counts.changed:
                counts.changed = False
                yield self._published(tenant, category, counts.scores)

    def _published(self, tenant: str, category: str, scores: dict[str, float]) -> TrendingList:
        decay = 1 / self._growth(self._newest_ms)
        top = heapq.nlargest(N_PUBLISHED, scores.items(), key=lambda pair: (pair[1], pair[0]))
        return TrendingList(
            tenant=tenant,
            category=category,
            partition=self._partition,
            as_of_ms=self._newest_ms,
            half_life_ms=self._half_life_ms,
            items=[TrendingItem(item_id=i, score=s * decay) for i, s in top if s > 0],
        )

    def _growth(self, time_ms: int) -> float:
        if self._epoch_ms is None:
            self._epoch_ms = time_ms
        self._newest_ms = max(self._newest_ms, time_ms)
        half_lives = (time_ms - self._epoch_ms) / self._half_life_ms
        if half_lives > _REBASE_HALF_LIVES:
            self._rebase(time_ms)
            half_lives = 0.0
        return float(2**half_lives)

    def _rebase(self, time_ms: int) -> None:
        assert self._epoch_ms is not None
        decay = 2.0 ** ((self._epoch_ms - time_ms) / self._half_life_ms)
        for counts in self._lists.values():
            for item_id in counts.scores:
                counts.scores[item_id] *= decay
        self._epoch_ms = time_ms

    def _add(self, tenant: str, category: str, item_id: str, score: float) -> None:
        counts = self._lists.get((tenant, category))
        if counts is None:
            if len(self._lists) >= self._n_lists:
                return
            counts = self._lists[tenant, category] = _Counts()
        counts.scores[item_id] = counts.scores.get(item_id, 0.0) + score
        counts.changed = True
        if len(counts.scores) > self._n_counted:
            kept = heapq.nlargest(
                self._n_counted // 2, counts.scores.items(), key=lambda pair: pair[1]
            )
            counts.scores = dict(kept)
