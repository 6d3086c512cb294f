"""What is trending: counts by action weight that decay, per tenant, category and partition.

A count halves in `half_life_ms` (3 days). Instead of decaying all counts all the time, each event
adds weight * 2^((its time - a fixed epoch) / half-life): the order of such scores never changes,
and a list is decayed to a moment by one division when it is published. The epoch moves forward
before the numbers grow large.

The time of an event here is when the broker accepted it, so that a list is a function of the log.
Linear in the counts: a list published before is simply added (`merge`), and a reader adds up the
partitions. After a crash up to a few seconds of events may count twice or not at all: trending is
approximate, histories are not.

Memory is bounded: at most `n_counted` items a list (only the best half stays of a longer one),
`n_lists` lists (further categories are not counted), and `N_FRESH` items that no list has yet.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from protos.rec.v1.interests_pb2 import TrendingItem, TrendingList

HALF_LIFE_MS = 3 * 24 * 3600 * 1000
N_PUBLISHED = 200
N_FRESH = 10_000
"""Items that are gathered before they are entered into the lists, at most."""
_REBASE_HALF_LIVES = 200
"""2^200 * weights is far from the largest float, 2^1023."""

CategoriesOf = Callable[[str, str], Iterable[str]]
"""(tenant, item_id) -> the item's categories, none while it is unknown"""


@dataclass(slots=True)
class _Counts:
    scores: dict[str, float] = field(default_factory=dict)
    changed: bool = True


class Trending:
    """One partition's lists. Pure but for its own memory; one owner."""

    def __init__(
        self,
        partition: int,
        categories_of: CategoriesOf,
        *,
        half_life_ms: int = HALF_LIFE_MS,
        n_counted: int = 2_000,
        n_lists: int = 2_000,
    ) -> None:
        """
        Args:
            categories_of: asked when what came is entered into the lists, not at each event.
        """
        self._partition, self._half_life_ms = partition, half_life_ms
        self._categories_of = categories_of
        self._n_counted, self._n_lists = n_counted, n_lists
        self._lists: dict[tuple[str, str], _Counts] = {}
        self._fresh: dict[tuple[str, str], float] = {}
        """Scores by tenant and item that no list has yet: most events name items that others name
        too, and an item has several categories."""
        self._epoch_ms: int | None = None
        self._newest_ms = 0

    def add(self, tenant: str, events: Iterable[tuple[str, float]], accepted_ms: int) -> None:
        """Count (item_id, weight) of the events of one record, in the list of all and in each
        category of their items."""
        growth = self._growth(accepted_ms)
        fresh = self._fresh
        for item_id, weight in events:
            fresh[tenant, item_id] = fresh.get((tenant, item_id), 0.0) + weight * growth
        if len(fresh) > N_FRESH:
            self._settle()

    def merge(self, published: TrendingList) -> None:
        """Add a list that was published before."""
        growth = self._growth(published.as_of_ms)
        for item in published.items:
            self._add(published.tenant, published.category, item.item_id, item.score * growth)
        self._trim()

    def take_changed(self) -> Iterator[TrendingList]:
        """Iterate over the lists that changed since the last call, decayed to the newest event.

        Events may be added meanwhile.
        """
        self._settle()
        for (tenant, category), counts in list(self._lists.items()):
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
        self._settle()
        decay = 2.0 ** ((self._epoch_ms - time_ms) / self._half_life_ms)
        for counts in self._lists.values():
            for item_id in counts.scores:
                counts.scores[item_id] *= decay
        self._epoch_ms = time_ms

    def _settle(self) -> None:
        """Enter into the lists what came since the last time."""
        fresh, self._fresh = self._fresh, {}
        for (tenant, item_id), score in fresh.items():
            self._add(tenant, "", item_id, score)
            for category in self._categories_of(tenant, item_id):
                if category:
                    self._add(tenant, category, item_id, score)
        self._trim()

    def _add(self, tenant: str, category: str, item_id: str, score: float) -> None:
        counts = self._lists.get((tenant, category))
        if counts is None:
            if len(self._lists) >= self._n_lists:
                return
            counts = self._lists[tenant, category] = _Counts()
        counts.scores[item_id] = counts.scores.get(item_id, 0.0) + score
        counts.changed = True

    def _trim(self) -> None:
        """Keep the best of lists that grew too long."""
        for counts in self._lists.values():
            if len(counts.scores) > self._n_counted:
                pairs = counts.scores.items()
                best = heapq.nlargest(self._n_counted // 2, pairs, key=lambda pair: pair[1])
                counts.scores = dict(best)
