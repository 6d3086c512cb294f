"""What a feed may choose from: of each interest, the nearest items that may be shown.

A search finds several times what a feed has room for, since some of it has been seen. To look at an
item costs more than to find it, so only as many are looked at as the merge can use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from retrieval.catalogue import CatalogueItem
from retrieval.milvus.wire import Hits
from retrieval.showable import Showable

EXTRA = 12
"""Candidates of each interest beyond the places of the feed: an interest that gets all places can
still choose for variety."""


@dataclass(frozen=True, slots=True)
class Candidates:
    items: list[CatalogueItem]
    seen_share: float
    """Of the hits."""


def n_wanted(n: int) -> int:
    """Return how many candidates of each interest a feed of n places can use."""
    return n + EXTRA


def nearest_of_each(hits: Sequence[Hits], showable: Showable, n: int) -> Candidates:
    """Return the nearest items of each interest that may be shown: `n_wanted(n)` of each, or a few
    more, as far as the hits go."""
    keys = list(dict.fromkeys(chain.from_iterable(found.keys for found in hits)))
    are_seen = showable.are_seen(keys)
    seen = {key for key, is_seen in zip(keys, are_seen.tolist(), strict=True) if is_seen}
    unseen = [[key for key in found.keys if key not in seen] for found in hits]
    deepest = max(map(len, unseen), default=0)
    depth = min(deepest, n_wanted(n) + EXTRA // 2)
    while True:
        looked_at = [of_one[:depth] for of_one in unseen]
        items = showable.wanted(list(dict.fromkeys(chain.from_iterable(looked_at))))
        shown = {item.key for item in items}
        fewest = min((sum(map(shown.__contains__, some)) for some in looked_at), default=0)
        if fewest >= n_wanted(n) or depth == deepest:
            return Candidates(items, len(seen) / max(1, len(keys)))
        depth = deepest
