"""Messages as JSON for the page: plain dictionaries, names as the page shows them."""

from typing import TypeAlias

from infra.hops import hop_durations
from protos.rec.v1.interests_pb2 import Tier
from protos.rec.v1.recommend_pb2 import (
    Feed,
    GetUserResponse,
    ItemSource,
    ListUsersResponse,
    RecentEvent,
    ScoredItem,
    Source,
    StreamFeedResponse,
)
from retrieval.interest_groups import interest_groups

N_SHOWN = 4
"""Items of an interest."""

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

_SOURCES = {
    Source.SOURCE_REFINED: "refined interests",
    Source.SOURCE_COARSE: "coarse interests",
    Source.SOURCE_LAST_KNOWN: "last known interests",
    Source.SOURCE_SESSION: "this session",
    Source.SOURCE_TRENDING_CATEGORY: "trending in the category",
    Source.SOURCE_TRENDING: "trending",
}


def push_view(push: StreamFeedResponse) -> dict[str, Json]:
    """One push of a feed."""
    cause: Json = None
    if push.HasField("cause"):
        cause = {
            "event_id": push.cause.event_id,
            "item_id": push.cause.item_id,
            "offset": push.cause.offset,
            "n_events": push.cause.n_events,
            "accepted_ms": push.cause.accepted_ms,
        }
    hops: list[Json] = [
        {"name": name, "ms": round(ms, 2)} for name, ms in hop_durations(push.hops).items()
    ]
    return {
        "sequence": push.sequence,
        "feed": feed_view(push.feed),
        "cause": cause,
        "since_event_ms": round(push.since_event_ms, 2),
        "hops": hops,
    }


def feed_view(feed: Feed) -> dict[str, Json]:
    return {
        "recommendation_id": feed.recommendation_id,
        "source": _SOURCES.get(feed.source, "unknown"),
        "is_best": feed.source == Source.SOURCE_REFINED and not feed.degraded_reason,
        "degraded_reason": feed.degraded_reason,
        "model_version": feed.model_version,
        "encoded_offset": feed.encoded_offset,
        "items": [item_view(item) for item in feed.items],
    }


def item_view(item: ScoredItem) -> dict[str, Json]:
    because: list[Json] = list(item.explanation.because_item_ids)
    return {
        "item_id": item.item_id,
        "title": item.title or item.item_id,
        "categories": list(item.categories),
        "score": round(item.score, 4),
        "interest": item.interest,
        "because": because,
        "is_new": item.explanation.source == ItemSource.ITEM_SOURCE_NEW,
    }


def user_view(user: GetUserResponse) -> dict[str, Json]:
    tier = user.vectors.tier
    return {
        "user_id": user.user_id,
        "n_events": user.n_events,
        "encoded_offset": user.encoded_offset,
        "tier": {Tier.TIER_LIGHT: "coarse", Tier.TIER_REFINED: "refined"}.get(tier, ""),
        "model_version": user.vectors.model_version,
        "recent": [_event_view(event) for event in user.recent],
        "interests": [
            {
                "interest": group.interest,
                "name": group.name,
                "weight": round(group.weight, 4),
                "items": [item_view(item) for item in group.items[:N_SHOWN]],
            }
            for group in interest_groups(user.interests)
        ],
    }


def users_view(users: ListUsersResponse) -> dict[str, Json]:
    return {
        "users": [
            {
                "user_id": user.user_id,
                "n_events": user.n_events,
                "last_event_time_ms": user.last_event_time_ms,
            }
            for user in users.users
        ],
        "next": users.next_page_token,
    }


def _event_view(event: RecentEvent) -> dict[str, Json]:
    return {
        "item_id": event.item.item_id,
        "title": event.item.title or event.item.item_id,
        "categories": list(event.item.categories),
        "action": event.action,
        "event_time_ms": event.event_time_ms,
    }
