"""What may be shown to a user: in the catalogue, as asked for, not excluded, not seen."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from protos.keys import short_key_hash
from protos.rec.v1.interests_pb2 import UserInterests
from retrieval.catalogue import Catalogue, CatalogueItem
from retrieval.filters import predicate
from retrieval.queries import Query
from retrieval.seen import LastSeen, seen_mask

NOTHING_SEEN = LastSeen.of_closed(())


class Showable:
    """The rules of one request."""

    def __init__(
        self, query: Query, state: UserInterests, closed: LastSeen, catalogue: Catalogue
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

    def are_seen(self, keys: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        """Return which items must not come again, from their keys (tenant/item) alone: half of
        what a search finds may be, and to look at an item costs more."""
        if self._policy.allowed:
            return np.zeros(len(keys), np.bool_)
        hashes = np.fromiter(map(short_key_hash, keys), np.uint32, len(keys))
        return seen_mask(hashes, self._closed, self._open, self._policy)

    @cached_property
    def _open(self) -> LastSeen:
        return LastSeen.of_open(self._state)

    def wanted(self, keys: Sequence[bytes]) -> list[CatalogueItem]:
        """Return the items of these keys that the question lets through, seen or not, in their
        order."""
        is_wanted, excluded, hidden = self._is_wanted, self._query.excluded, self._query.hidden
        return [
            item
            for item in self._catalogue.get_many(keys)
            if item is not None
            and item.item_id not in excluded
            and item.short_hash not in hidden
            and is_wanted(item)
        ]

    def keep(self, keys: Sequence[bytes]) -> list[CatalogueItem]:
        """Return the items of these keys that may be shown, in their order."""
        are_seen = self.are_seen(keys).tolist()
        return self.wanted(
            [key for key, is_seen in zip(keys, are_seen, strict=True) if not is_seen]
        )
