"""What a feed may choose from: of each interest, the nearest items that may be shown.

A search finds several times what a feed has room for, since some of it must not be shown. Looking
at an item costs more than finding it, so only as many are looked at as the merge can use.
"""

from collections.abc import Sequence
from itertools import chain

from retrieval.catalogue import CatalogueItem
from retrieval.milvus.wire import Hits
from retrieval.showable import Showable

PER_PLACE = 2
"""Candidates of each interest for each place of the feed: an interest that gets all places can
still choose for variety."""


def nearest_of_each(hits: Sequence[Hits], showable: Showable, n: int) -> list[CatalogueItem]:
    """Return the nearest items of each interest that may be shown: PER_PLACE * n each, or a few
    more, as far as the hits go."""
    wanted = PER_PLACE * n
    deepest = max((len(found.keys) for found in hits), default=0)
    depth = min(deepest, wanted + wanted // 2)
    while True:
        looked_at = [found.keys[:depth] for found in hits]
        items = showable.keep(list(dict.fromkeys(chain.from_iterable(looked_at))))
        shown = {item.key for item in items}
        fewest = min((sum(map(shown.__contains__, keys)) for keys in looked_at), default=0)
        if fewest >= wanted or depth == deepest:
            return items
        depth = deepest
