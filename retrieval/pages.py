"""What RecommendNext continues: a token that says which question was asked, and what it has shown.

The token holds everything, so any replica answers it, whenever; nothing is kept here. It is signed
with what all replicas of one Freshet know. A token that was altered, made up, or given to another
user is refused alike, so that it tells nothing about others.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from protos.errors import InvalidInput
from protos.keys import checked_tenant, short_item_hash
from protos.rec.v1.pages_pb2 import PageState
from protos.rec.v1.recommend_pb2 import FeedQuery
from retrieval.seen import unpack_hashes

MAX_HIDDEN = 15_000
"""Items shown or excluded: a token has four bytes of each."""
_SIGNATURE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Page:
    recommendation_id: str
    query: FeedQuery
    """As it was first asked, without the excluded items."""
    hidden: frozenset[int]
    """Short hashes of what must not come again."""


class PageTokens:
    def __init__(self, secret: bytes) -> None:
        """
        Args:
            secret: the same for all replicas behind one address.
        """
        self._key = blake2b(secret, digest_size=32).digest()

    def first(self, recommendation_id: str, query: FeedQuery, shown: Iterable[str]) -> str:
        """Return the token that continues behind a first page; "" when it may show no more."""
        bare = FeedQuery()
        bare.CopyFrom(query)
        del bare.exclude_item_ids[:]
        hidden = _hashes(query.tenant, query.exclude_item_ids)
        return self.next(Page(recommendation_id, bare, hidden), shown)

    def next(self, page: Page, shown: Iterable[str]) -> str:
        """Return the token that continues behind what a page has shown now."""
        hidden = page.hidden | _hashes(page.query.tenant, shown)
        if len(hidden) >= MAX_HIDDEN:
            return ""
        state = PageState(
            recommendation_id=page.recommendation_id,
            query=page.query,
            hidden_hashes=np.array(sorted(hidden), "<u4").tobytes(),
        ).SerializeToString()
        return base64.urlsafe_b64encode(self._signature(state) + state).decode()

    def read(self, token: str, tenant: str, user_id: str) -> Page:
        """Raises InvalidInput for a token that is not this user's, or no token."""
        try:
            raw = base64.urlsafe_b64decode(token.encode())
        except (binascii.Error, ValueError):
            raw = b""
        signature, state = raw[:_SIGNATURE_BYTES], PageState()
        if hmac.compare_digest(signature, self._signature(raw[_SIGNATURE_BYTES:])):
            state.ParseFromString(raw[_SIGNATURE_BYTES:])
        query = state.query
        if not query.user_id or (checked_tenant(query.tenant), query.user_id) != (tenant, user_id):
            raise InvalidInput(
                "page_token is not one that this user was given; begin again with Recommend"
            )
        hidden = unpack_hashes(state.hidden_hashes).tolist()
        return Page(state.recommendation_id, query, frozenset(hidden))

    def _signature(self, state: bytes) -> bytes:
        return blake2b(state, key=self._key, digest_size=_SIGNATURE_BYTES).digest()


def _hashes(tenant: str, item_ids: Iterable[str]) -> frozenset[int]:
    tenant = checked_tenant(tenant)
    return frozenset([short_item_hash(tenant, item_id) for item_id in item_ids])
