from protos.rec.v1 import events_pb2 as _events_pb2
from protos.rec.v1 import interests_pb2 as _interests_pb2
from protos.rec.v1 import items_pb2 as _items_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SeenPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEEN_POLICY_UNSPECIFIED: _ClassVar[SeenPolicy]
    SEEN_POLICY_NEVER: _ClassVar[SeenPolicy]
    SEEN_POLICY_AFTER_DAYS: _ClassVar[SeenPolicy]
    SEEN_POLICY_ALLOWED: _ClassVar[SeenPolicy]

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_REFINED: _ClassVar[Source]
    SOURCE_COARSE: _ClassVar[Source]
    SOURCE_LAST_KNOWN: _ClassVar[Source]
    SOURCE_SESSION: _ClassVar[Source]
    SOURCE_TRENDING_CATEGORY: _ClassVar[Source]
    SOURCE_TRENDING: _ClassVar[Source]

class ItemSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ITEM_SOURCE_UNSPECIFIED: _ClassVar[ItemSource]
    ITEM_SOURCE_INTEREST: _ClassVar[ItemSource]
    ITEM_SOURCE_NEW: _ClassVar[ItemSource]
    ITEM_SOURCE_TRENDING: _ClassVar[ItemSource]
SEEN_POLICY_UNSPECIFIED: SeenPolicy
SEEN_POLICY_NEVER: SeenPolicy
SEEN_POLICY_AFTER_DAYS: SeenPolicy
SEEN_POLICY_ALLOWED: SeenPolicy
SOURCE_UNSPECIFIED: Source
SOURCE_REFINED: Source
SOURCE_COARSE: Source
SOURCE_LAST_KNOWN: Source
SOURCE_SESSION: Source
SOURCE_TRENDING_CATEGORY: Source
SOURCE_TRENDING: Source
ITEM_SOURCE_UNSPECIFIED: ItemSource
ITEM_SOURCE_INTEREST: ItemSource
ITEM_SOURCE_NEW: ItemSource
ITEM_SOURCE_TRENDING: ItemSource

class FeedQuery(_message.Message):
    __slots__ = ("tenant", "user_id", "n", "scenario", "categories", "filter", "exclude_item_ids", "seen_policy", "seen_after_days", "explain", "variant")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SEEN_POLICY_FIELD_NUMBER: _ClassVar[int]
    SEEN_AFTER_DAYS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user_id: str
    n: int
    scenario: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    seen_policy: SeenPolicy
    seen_after_days: int
    explain: bool
    variant: str
    def __init__(self, tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., n: _Optional[int] = ..., scenario: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., seen_policy: _Optional[_Union[SeenPolicy, str]] = ..., seen_after_days: _Optional[int] = ..., explain: _Optional[bool] = ..., variant: _Optional[str] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("query", "after", "session")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    query: FeedQuery
    after: _events_pb2.Receipt
    session: _containers.RepeatedCompositeFieldContainer[_events_pb2.Event]
    def __init__(self, query: _Optional[_Union[FeedQuery, _Mapping]] = ..., after: _Optional[_Union[_events_pb2.Receipt, _Mapping]] = ..., session: _Optional[_Iterable[_Union[_events_pb2.Event, _Mapping]]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("feed",)
    FEED_FIELD_NUMBER: _ClassVar[int]
    feed: Feed
    def __init__(self, feed: _Optional[_Union[Feed, _Mapping]] = ...) -> None: ...

class Feed(_message.Message):
    __slots__ = ("recommendation_id", "items", "source", "degraded_reason", "includes_receipt", "model_version", "encoded_offset", "next_page_token")
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASON_FIELD_NUMBER: _ClassVar[int]
    INCLUDES_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENCODED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    recommendation_id: str
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    source: Source
    degraded_reason: str
    includes_receipt: bool
    model_version: str
    encoded_offset: int
    next_page_token: str
    def __init__(self, recommendation_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ..., source: _Optional[_Union[Source, str]] = ..., degraded_reason: _Optional[str] = ..., includes_receipt: _Optional[bool] = ..., model_version: _Optional[str] = ..., encoded_offset: _Optional[int] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ScoredItem(_message.Message):
    __slots__ = ("item_id", "title", "categories", "score", "interest", "explanation")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    INTEREST_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    score: float
    interest: int
    explanation: Explanation
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., score: _Optional[float] = ..., interest: _Optional[int] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("because_item_ids", "score_parts", "source")
    class ScorePartsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    BECAUSE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORE_PARTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    because_item_ids: _containers.RepeatedScalarFieldContainer[str]
    score_parts: _containers.ScalarMap[str, float]
    source: ItemSource
    def __init__(self, because_item_ids: _Optional[_Iterable[str]] = ..., score_parts: _Optional[_Mapping[str, float]] = ..., source: _Optional[_Union[ItemSource, str]] = ...) -> None: ...

class RecommendNextRequest(_message.Message):
    __slots__ = ("tenant", "user_id", "page_token", "n")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user_id: str
    page_token: str
    n: int
    def __init__(self, tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., page_token: _Optional[str] = ..., n: _Optional[int] = ...) -> None: ...

class RecommendNextResponse(_message.Message):
    __slots__ = ("feed",)
    FEED_FIELD_NUMBER: _ClassVar[int]
    feed: Feed
    def __init__(self, feed: _Optional[_Union[Feed, _Mapping]] = ...) -> None: ...

class StreamFeedRequest(_message.Message):
    __slots__ = ("query", "min_interval_ms", "resume_token")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    MIN_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    query: FeedQuery
    min_interval_ms: int
    resume_token: str
    def __init__(self, query: _Optional[_Union[FeedQuery, _Mapping]] = ..., min_interval_ms: _Optional[int] = ..., resume_token: _Optional[str] = ...) -> None: ...

class StreamFeedResponse(_message.Message):
    __slots__ = ("feed", "cause", "since_event_ms", "hops", "sequence", "heartbeat", "resume_token")
    FEED_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    SINCE_EVENT_MS_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    feed: Feed
    cause: _interests_pb2.Cause
    since_event_ms: float
    hops: _containers.RepeatedCompositeFieldContainer[_interests_pb2.Hop]
    sequence: int
    heartbeat: bool
    resume_token: str
    def __init__(self, feed: _Optional[_Union[Feed, _Mapping]] = ..., cause: _Optional[_Union[_interests_pb2.Cause, _Mapping]] = ..., since_event_ms: _Optional[float] = ..., hops: _Optional[_Iterable[_Union[_interests_pb2.Hop, _Mapping]]] = ..., sequence: _Optional[int] = ..., heartbeat: _Optional[bool] = ..., resume_token: _Optional[str] = ...) -> None: ...

class PreviewFeedRequest(_message.Message):
    __slots__ = ("query", "state", "seen", "candidates")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    query: FeedQuery
    state: _interests_pb2.UserInterests
    seen: _containers.RepeatedCompositeFieldContainer[_interests_pb2.SeenSegment]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    def __init__(self, query: _Optional[_Union[FeedQuery, _Mapping]] = ..., state: _Optional[_Union[_interests_pb2.UserInterests, _Mapping]] = ..., seen: _Optional[_Iterable[_Union[_interests_pb2.SeenSegment, _Mapping]]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("item_id", "embedding")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    embedding: _items_pb2.Embedding
    def __init__(self, item_id: _Optional[str] = ..., embedding: _Optional[_Union[_items_pb2.Embedding, _Mapping]] = ...) -> None: ...

class PreviewFeedResponse(_message.Message):
    __slots__ = ("feed",)
    FEED_FIELD_NUMBER: _ClassVar[int]
    feed: Feed
    def __init__(self, feed: _Optional[_Union[Feed, _Mapping]] = ...) -> None: ...

class SimilarItemsRequest(_message.Message):
    __slots__ = ("tenant", "item_id", "n", "categories", "filter")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    item_id: str
    n: int
    categories: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    def __init__(self, tenant: _Optional[str] = ..., item_id: _Optional[str] = ..., n: _Optional[int] = ..., categories: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ...) -> None: ...

class SimilarItemsResponse(_message.Message):
    __slots__ = ("items", "model_version")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    model_version: str
    def __init__(self, items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ..., model_version: _Optional[str] = ...) -> None: ...

class GetUserRequest(_message.Message):
    __slots__ = ("tenant", "user_id", "n_items_per_interest")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    N_ITEMS_PER_INTEREST_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user_id: str
    n_items_per_interest: int
    def __init__(self, tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., n_items_per_interest: _Optional[int] = ...) -> None: ...

class GetUserResponse(_message.Message):
    __slots__ = ("tenant", "user_id", "n_events", "recent", "interests", "vectors", "applied_offset", "encoded_offset", "partition")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    N_EVENTS_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    INTERESTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ENCODED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user_id: str
    n_events: int
    recent: _containers.RepeatedCompositeFieldContainer[RecentEvent]
    interests: _containers.RepeatedCompositeFieldContainer[InterestView]
    vectors: _interests_pb2.Interests
    applied_offset: int
    encoded_offset: int
    partition: int
    def __init__(self, tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., n_events: _Optional[int] = ..., recent: _Optional[_Iterable[_Union[RecentEvent, _Mapping]]] = ..., interests: _Optional[_Iterable[_Union[InterestView, _Mapping]]] = ..., vectors: _Optional[_Union[_interests_pb2.Interests, _Mapping]] = ..., applied_offset: _Optional[int] = ..., encoded_offset: _Optional[int] = ..., partition: _Optional[int] = ...) -> None: ...

class RecentEvent(_message.Message):
    __slots__ = ("item", "action", "event_time_ms")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    item: _items_pb2.Item
    action: str
    event_time_ms: int
    def __init__(self, item: _Optional[_Union[_items_pb2.Item, _Mapping]] = ..., action: _Optional[str] = ..., event_time_ms: _Optional[int] = ...) -> None: ...

class InterestView(_message.Message):
    __slots__ = ("interest", "weight", "items")
    INTEREST_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    interest: int
    weight: float
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    def __init__(self, interest: _Optional[int] = ..., weight: _Optional[float] = ..., items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ...) -> None: ...

class ListUsersRequest(_message.Message):
    __slots__ = ("tenant", "prefix", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    prefix: str
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListUsersResponse(_message.Message):
    __slots__ = ("users", "next_page_token")
    USERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[UserSummary]
    next_page_token: str
    def __init__(self, users: _Optional[_Iterable[_Union[UserSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UserSummary(_message.Message):
    __slots__ = ("user_id", "n_events", "last_event_time_ms")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    N_EVENTS_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    n_events: int
    last_event_time_ms: int
    def __init__(self, user_id: _Optional[str] = ..., n_events: _Optional[int] = ..., last_event_time_ms: _Optional[int] = ...) -> None: ...
