"""What a feed may choose from: of each interest, the nearest items that may be shown.

A search finds several times what a feed has room for, since some of it has been seen. To look at an
item costs more than to find it, so only as many are looked at as the merge can use. Which items
those are does not depend on how deep the search went, as long as it went deep enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from retrieval.catalogue import CatalogueItem
from retrieval.milvus.wire import Hits
from retrieval.showable import Showable

EXTRA = 6
"""Candidates of each interest beyond the places of the feed: an interest that gets all places can
still choose for variety."""
MARGIN = 3
"""Unseen items of each interest that are looked at beyond those, in case some are not wanted."""


@dataclass(frozen=True, slots=True)
class Candidates:
    items: list[CatalogueItem]
    are_all: bool
    """Whether a deeper search would find the same."""
    passed_over: int
    """Hits that may not be shown before an interest has its candidates, of the interest with the
    most of them."""


def n_wanted(n: int) -> int:
    """Return how many candidates of each interest a feed of n places can use."""
    return n + EXTRA


def nearest_of_each(hits: Sequence[Hits], limit: int, showable: Showable, n: int) -> Candidates:
    """Return the `n_wanted(n)` nearest items of each interest that may be shown, as far as the hits
    go.

    Args:
        limit: how many hits each interest was asked for; one with fewer has no more.
    """
    keys = list(dict.fromkeys(chain.from_iterable(found.keys for found in hits)))
    are_seen = showable.are_seen(keys)
    seen = {key for key, is_seen in zip(keys, are_seen.tolist(), strict=True) if is_seen}
    unseen = [[key for key in found.keys if key not in seen] for found in hits]
    n_most, deepest = n_wanted(n), max(map(len, unseen), default=0)
    depth = min(deepest, n_most + MARGIN)
    while True:
        looked_at = [of_one[:depth] for of_one in unseen]
        items = showable.wanted(list(dict.fromkeys(chain.from_iterable(looked_at))))
        shown = {item.key: item for item in items}
        nearest = [[key for key in some if key in shown][:n_most] for some in looked_at]
        if depth == deepest or all(len(some) == n_most for some in nearest):
            break
        depth = deepest
    are_all, passed_over = True, 0
    for found, some in zip(hits, nearest, strict=True):
        is_full = len(some) == n_most
        n_needed = found.keys.index(some[-1]) + 1 if is_full else len(found.keys)
        passed_over = max(passed_over, n_needed - len(some))
        are_all = are_all and (is_full or len(found.keys) < limit)
    union = dict.fromkeys(chain.from_iterable(nearest))
    return Candidates([shown[key] for key in union], are_all, passed_over)
