from protos.rec.v1 import items_pb2 as _items_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_LIGHT: _ClassVar[Tier]
    TIER_REFINED: _ClassVar[Tier]
TIER_UNSPECIFIED: Tier
TIER_LIGHT: Tier
TIER_REFINED: Tier

class Interests(_message.Message):
    __slots__ = ("model_version", "codebook_version", "model_sequence", "tier", "dtype", "n_interests", "dim", "vectors", "weights")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CODEBOOK_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    N_INTERESTS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    codebook_version: str
    model_sequence: int
    tier: Tier
    dtype: _items_pb2.Dtype
    n_interests: int
    dim: int
    vectors: bytes
    weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, model_version: _Optional[str] = ..., codebook_version: _Optional[str] = ..., model_sequence: _Optional[int] = ..., tier: _Optional[_Union[Tier, str]] = ..., dtype: _Optional[_Union[_items_pb2.Dtype, str]] = ..., n_interests: _Optional[int] = ..., dim: _Optional[int] = ..., vectors: _Optional[bytes] = ..., weights: _Optional[_Iterable[float]] = ...) -> None: ...

class UserInterests(_message.Message):
    __slots__ = ("tenant", "user_id", "partition", "applied_offset", "encoded_offset", "interests", "n_events", "n_closed_segments", "open_segment_hashes", "recent", "cause", "hops", "erased")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    APPLIED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ENCODED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    INTERESTS_FIELD_NUMBER: _ClassVar[int]
    N_EVENTS_FIELD_NUMBER: _ClassVar[int]
    N_CLOSED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    OPEN_SEGMENT_HASHES_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user_id: str
    partition: int
    applied_offset: int
    encoded_offset: int
    interests: Interests
    n_events: int
    n_closed_segments: int
    open_segment_hashes: bytes
    recent: _containers.RepeatedCompositeFieldContainer[RecentItem]
    cause: Cause
    hops: _containers.RepeatedCompositeFieldContainer[Hop]
    erased: bool
    def __init__(self, tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., partition: _Optional[int] = ..., applied_offset: _Optional[int] = ..., encoded_offset: _Optional[int] = ..., interests: _Optional[_Union[Interests, _Mapping]] = ..., n_events: _Optional[int] = ..., n_closed_segments: _Optional[int] = ..., open_segment_hashes: _Optional[bytes] = ..., recent: _Optional[_Iterable[_Union[RecentItem, _Mapping]]] = ..., cause: _Optional[_Union[Cause, _Mapping]] = ..., hops: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., erased: _Optional[bool] = ...) -> None: ...

class RecentItem(_message.Message):
    __slots__ = ("item_id", "text_digest", "event_time_ms", "action")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    text_digest: int
    event_time_ms: int
    action: int
    def __init__(self, item_id: _Optional[str] = ..., text_digest: _Optional[int] = ..., event_time_ms: _Optional[int] = ..., action: _Optional[int] = ...) -> None: ...

class Cause(_message.Message):
    __slots__ = ("event_id", "offset", "accepted_ms", "item_id", "n_events")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_MS_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    N_EVENTS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    offset: int
    accepted_ms: int
    item_id: str
    n_events: int
    def __init__(self, event_id: _Optional[str] = ..., offset: _Optional[int] = ..., accepted_ms: _Optional[int] = ..., item_id: _Optional[str] = ..., n_events: _Optional[int] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("name", "at_us")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    name: str
    at_us: int
    def __init__(self, name: _Optional[str] = ..., at_us: _Optional[int] = ...) -> None: ...

class SeenSegment(_message.Message):
    __slots__ = ("tenant", "user_id", "segment_index", "item_hashes", "last_event_time_ms", "offset")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_INDEX_FIELD_NUMBER: _ClassVar[int]
    ITEM_HASHES_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user_id: str
    segment_index: int
    item_hashes: bytes
    last_event_time_ms: int
    offset: int
    def __init__(self, tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., segment_index: _Optional[int] = ..., item_hashes: _Optional[bytes] = ..., last_event_time_ms: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class OpenFeed(_message.Message):
    __slots__ = ("tenant", "user_id", "expires_at_ms")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user_id: str
    expires_at_ms: int
    def __init__(self, tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class TrendingList(_message.Message):
    __slots__ = ("tenant", "category", "partition", "as_of_ms", "half_life_ms", "items")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_MS_FIELD_NUMBER: _ClassVar[int]
    HALF_LIFE_MS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    category: str
    partition: int
    as_of_ms: int
    half_life_ms: int
    items: _containers.RepeatedCompositeFieldContainer[TrendingItem]
    def __init__(self, tenant: _Optional[str] = ..., category: _Optional[str] = ..., partition: _Optional[int] = ..., as_of_ms: _Optional[int] = ..., half_life_ms: _Optional[int] = ..., items: _Optional[_Iterable[_Union[TrendingItem, _Mapping]]] = ...) -> None: ...

class TrendingItem(_message.Message):
    __slots__ = ("item_id", "score")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...
