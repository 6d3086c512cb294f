"""What callers ask for, checked once: protobuf in, frozen values out, InvalidInput for the rest."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from infra.attribution import checked_tag
from infra.kafka_topics import user_partition
from protos.errors import InvalidInput
from protos.keys import checked_id, checked_tenant
from protos.rec.v1.events_pb2 import Event, Receipt
from protos.rec.v1.recommend_pb2 import FeedQuery, PreviewFeedRequest, SeenPolicy
from retrieval.catalogue import Catalogue
from retrieval.filter_language import parse
from retrieval.filters import And, Available, Filter, InCategories, TenantIs
from retrieval.seen import Policy

MAX_N = 500
MAX_CATEGORIES = 100
MAX_EXCLUDED = 10_000
MAX_SEEN_DAYS = 36_500
MAX_SESSION_EVENTS = 8192
MAX_SEGMENTS = 64
MAX_CANDIDATES = 2_000


@dataclass(frozen=True, slots=True)
class Query:
    """A checked FeedQuery."""

    tenant: str
    user_id: str
    n: int
    categories: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    seen_policy: int = SeenPolicy.SEEN_POLICY_NEVER
    seen_after_days: int = 0
    explain: bool = False
    filter: Filter | None = None
    hidden: frozenset[int] = frozenset()
    """Short hashes of what was shown or excluded on pages before."""
    scenario: str = ""
    variant: str = ""

    @property
    def where(self) -> Filter:
        """What every item of the answer must be."""
        parts: list[Filter] = [TenantIs(self.tenant), Available()]
        if self.categories:
            parts.append(InCategories(self.categories))
        if self.filter is not None:
            parts.append(self.filter)
        return And(tuple(parts))

    def policy(self) -> Policy:
        return Policy.of(self.seen_policy, self.seen_after_days, time.time_ns() // 1_000_000)


SeenRule: TypeAlias = Literal["never", "allowed"] | int
"""What a scenario does with seen items; a number: they may come back after so many days."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What questions are read by."""

    catalogue: Catalogue
    """Knows which attributes filters may name."""
    seen: Mapping[str, SeenRule] = field(default_factory=dict)
    """By scenario, for questions that leave it open; "never" for scenarios that are not here."""


def checked_query(query: FeedQuery, rules: Rules) -> Query:
    """Raises InvalidInput naming the field."""
    if len(query.exclude_item_ids) > MAX_EXCLUDED:
        raise InvalidInput(
            f"exclude_item_ids has {len(query.exclude_item_ids)} items; at most {MAX_EXCLUDED:,}"
        )
    if query.seen_policy not in SeenPolicy.values():
        raise InvalidInput(f"seen_policy {query.seen_policy} is not declared")
    if query.seen_after_days > MAX_SEEN_DAYS:
        raise InvalidInput(f"seen_after_days is {query.seen_after_days}; at most {MAX_SEEN_DAYS}")
    tenant = checked_tenant(query.tenant)
    seen_policy, seen_after_days = _seen(query, rules)
    return Query(
        tenant=tenant,
        user_id=checked_id(query.user_id, "user_id"),
        n=checked_n(query.n),
        categories=checked_categories(query.categories),
        excluded=frozenset(query.exclude_item_ids),
        seen_policy=seen_policy,
        seen_after_days=seen_after_days,
        explain=query.explain,
        filter=checked_filter(query.filter, tenant, rules),
        scenario=checked_tag(query.scenario, "scenario"),
        variant=checked_tag(query.variant, "variant"),
    )


def checked_filter(text: str, tenant: str, rules: Rules) -> Filter | None:
    """Return a tenant's filter, None for an empty text. Raises InvalidInput naming the place."""
    return parse(text, rules.catalogue.attributes(tenant)) if text else None


def _seen(query: FeedQuery, rules: Rules) -> tuple[int, int]:
    """Return the policy for seen items, and its days."""
    if query.seen_policy != SeenPolicy.SEEN_POLICY_UNSPECIFIED:
        return query.seen_policy, query.seen_after_days
    match rules.seen.get(query.scenario, "never"):
        case "never":
            return SeenPolicy.SEEN_POLICY_NEVER, 0
        case "allowed":
            return SeenPolicy.SEEN_POLICY_ALLOWED, 0
        case days:
            return SeenPolicy.SEEN_POLICY_AFTER_DAYS, days


def checked_n(n: int) -> int:
    if not 1 <= n <= MAX_N:
        raise InvalidInput(f"n is {n}; ask for 1 to {MAX_N} items")
    return n


def checked_categories(categories: Sequence[str]) -> tuple[str, ...]:
    if len(categories) > MAX_CATEGORIES:
        raise InvalidInput(f"categories has {len(categories)} names; at most {MAX_CATEGORIES}")
    return tuple(checked_id(name, "categories") for name in dict.fromkeys(categories))


def checked_receipt(receipt: Receipt, query: Query, n_partitions: int) -> Receipt:
    """Raises InvalidInput for a receipt that cannot be this user's."""
    if (checked_tenant(receipt.tenant), receipt.user_id) != (query.tenant, query.user_id):
        raise InvalidInput(f"after is a receipt of another user than {query.user_id!r}")
    partition = user_partition(query.tenant, query.user_id, n_partitions)
    if receipt.partition != partition:
        raise InvalidInput(
            f"after names partition {receipt.partition}; events of {query.user_id!r} are in "
            f"{partition}: pass the receipt on as Publish gave it"
        )
    if receipt.offset < 0:
        raise InvalidInput(f"after names offset {receipt.offset}; offsets begin at 0")
    return receipt


def checked_preview(request: PreviewFeedRequest, rules: Rules) -> Query:
    """Raises InvalidInput for a state that is not the query's user's, or for too much of it."""
    query = checked_query(request.query, rules)
    state = request.state
    if (checked_tenant(state.tenant), state.user_id) != (query.tenant, query.user_id):
        raise InvalidInput(f"state is of another user than {query.user_id!r}")
    if len(request.seen) > MAX_SEGMENTS:
        raise InvalidInput(f"seen has {len(request.seen)} segments; at most {MAX_SEGMENTS}")
    if len(request.candidates) > MAX_CANDIDATES:
        raise InvalidInput(
            f"candidates has {len(request.candidates):,} items; at most {MAX_CANDIDATES:,}"
        )
    return query


def checked_session(events: Sequence[Event]) -> Sequence[Event]:
    if len(events) > MAX_SESSION_EVENTS:
        raise InvalidInput(f"session has {len(events)} events; at most {MAX_SESSION_EVENTS:,}")
    for event in events:
        checked_id(event.item_id, "session.item_id")
    return events
