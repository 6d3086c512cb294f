"""What RecommendNext continues: an opaque token names a recommendation and all it has shown.

Bounded: the newest pages stay in memory, by bytes. A token that was forgotten, forged, or given to
another user is refused alike, so that it tells nothing about others.
"""

import secrets
from dataclasses import dataclass, replace

from infra.lru import Lru
from protos.errors import InvalidInput
from retrieval.queries import Query

MAX_SHOWN = 5000


@dataclass(frozen=True, slots=True)
class Page:
    recommendation_id: str
    query: Query
    """As it was first asked."""
    shown: frozenset[str]

    def next_query(self, n: int) -> Query:
        return replace(self.query, n=n, excluded=self.query.excluded | self.shown)


class Pages:
    def __init__(self, max_bytes: int = 32 * 2**20) -> None:
        self._pages: Lru[str, Page] = Lru(max_bytes)

    def remember(self, page: Page) -> str:
        """Return the token that continues after a page; "" when it has shown all it may."""
        if len(page.shown) >= MAX_SHOWN:
            return ""
        token = secrets.token_urlsafe(16)
        n_bytes = 500 + 100 * (len(page.shown) + len(page.query.excluded))
        n_bytes += 32 * page.query.filter_bytes  # its tree: a few objects for "a == 1"
        self._pages.put(token, page, n_bytes)
        return token

    def find(self, token: str, tenant: str, user_id: str) -> Page:
        """Raises InvalidInput for a token that is not this user's, or not known any more."""
        page = self._pages.get(token)
        if page is None or (page.query.tenant, page.query.user_id) != (tenant, user_id):
            raise InvalidInput(
                "page_token is not one of this user's, or too old; begin again with Recommend"
            )
        return page
