"""What may be shown to a user: in the catalogue, as asked for, not excluded, not seen."""

from collections.abc import Sequence

import numpy as np

from protos.rec.v1.interests_pb2 import UserInterests
from retrieval.catalogue import Catalogue, CatalogueItem
from retrieval.filters import predicate
from retrieval.queries import Query
from retrieval.seen import ClosedSeen, seen_mask

NOTHING_SEEN = ClosedSeen.of(())


class Showable:
    """The rules of one request."""

    def __init__(
        self, query: Query, state: UserInterests, closed: ClosedSeen, catalogue: Catalogue
    ) -> None:
        self._query, self._state, self._closed = query, state, closed
        self._catalogue = catalogue
        self._is_wanted, self._policy = predicate(query.where), query.policy()

    @property
    def n_hidden(self) -> int:
        """Estimate how many items the user's past takes out."""
        n_seen = 0 if self._policy.allowed else len(self._closed.hashes)
        n_open = 0 if self._policy.allowed else len(self._state.open_segment_hashes) // 4
        return n_seen + n_open + len(self._query.excluded) + len(self._query.hidden)

    def keep(self, keys: Sequence[bytes]) -> list[CatalogueItem]:
        """Return the items of these keys (tenant/item) that may be shown, in their order."""
        is_wanted, excluded, hidden = self._is_wanted, self._query.excluded, self._query.hidden
        items = [
            item
            for item in self._catalogue.get_many(keys)
            if item is not None
            and item.item_id not in excluded
            and item.short_hash not in hidden
            and is_wanted(item)
        ]
        if self._policy.allowed:
            return items
        hashes = np.fromiter((item.short_hash for item in items), np.uint32, len(items))
        are_seen = seen_mask(hashes, self._closed, self._state, self._policy)
        return [item for item, is_seen in zip(items, are_seen.tolist(), strict=True) if not is_seen]
