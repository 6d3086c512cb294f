from protos.rec.v1 import interests_pb2 as _interests_pb2
from protos.rec.v1 import items_pb2 as _items_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResultStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_STATUS_UNSPECIFIED: _ClassVar[ResultStatus]
    RESULT_STATUS_OK: _ClassVar[ResultStatus]
    RESULT_STATUS_NEED_BLOCKS: _ClassVar[ResultStatus]
    RESULT_STATUS_NEED_ITEMS: _ClassVar[ResultStatus]
    RESULT_STATUS_STALE_MODEL: _ClassVar[ResultStatus]
    RESULT_STATUS_INVALID: _ClassVar[ResultStatus]
RESULT_STATUS_UNSPECIFIED: ResultStatus
RESULT_STATUS_OK: ResultStatus
RESULT_STATUS_NEED_BLOCKS: ResultStatus
RESULT_STATUS_NEED_ITEMS: ResultStatus
RESULT_STATUS_STALE_MODEL: ResultStatus
RESULT_STATUS_INVALID: ResultStatus

class RefreshRequest(_message.Message):
    __slots__ = ("users", "items", "item_gone")
    USERS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    ITEM_GONE_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[UserState]
    items: _containers.RepeatedCompositeFieldContainer[ItemText]
    item_gone: _containers.RepeatedCompositeFieldContainer[_interests_pb2.RecentItem]
    def __init__(self, users: _Optional[_Iterable[_Union[UserState, _Mapping]]] = ..., items: _Optional[_Iterable[_Union[ItemText, _Mapping]]] = ..., item_gone: _Optional[_Iterable[_Union[_interests_pb2.RecentItem, _Mapping]]] = ...) -> None: ...

class UserState(_message.Message):
    __slots__ = ("tenant", "user_id", "model_version", "codebook_version", "block_digests", "blocks", "n_closed_segments", "open_segment", "recent_item_ids", "recent_text_digests", "n_events", "tier", "accepted_ms")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CODEBOOK_VERSION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    N_CLOSED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    OPEN_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    RECENT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    RECENT_TEXT_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    N_EVENTS_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_MS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    user_id: str
    model_version: str
    codebook_version: str
    block_digests: bytes
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    n_closed_segments: int
    open_segment: bytes
    recent_item_ids: _containers.RepeatedScalarFieldContainer[str]
    recent_text_digests: _containers.RepeatedScalarFieldContainer[int]
    n_events: int
    tier: _interests_pb2.Tier
    accepted_ms: int
    def __init__(self, tenant: _Optional[str] = ..., user_id: _Optional[str] = ..., model_version: _Optional[str] = ..., codebook_version: _Optional[str] = ..., block_digests: _Optional[bytes] = ..., blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., n_closed_segments: _Optional[int] = ..., open_segment: _Optional[bytes] = ..., recent_item_ids: _Optional[_Iterable[str]] = ..., recent_text_digests: _Optional[_Iterable[int]] = ..., n_events: _Optional[int] = ..., tier: _Optional[_Union[_interests_pb2.Tier, str]] = ..., accepted_ms: _Optional[int] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("digest", "memory", "segment")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    memory: bytes
    segment: bytes
    def __init__(self, digest: _Optional[bytes] = ..., memory: _Optional[bytes] = ..., segment: _Optional[bytes] = ...) -> None: ...

class ItemText(_message.Message):
    __slots__ = ("tenant", "item_id", "text")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    item_id: str
    text: str
    def __init__(self, tenant: _Optional[str] = ..., item_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class RefreshResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[UserResult]
    def __init__(self, results: _Optional[_Iterable[_Union[UserResult, _Mapping]]] = ...) -> None: ...

class UserResult(_message.Message):
    __slots__ = ("status", "need_blocks", "need_items", "interests", "closed_blocks", "reason")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NEED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    NEED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    INTERESTS_FIELD_NUMBER: _ClassVar[int]
    CLOSED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    status: ResultStatus
    need_blocks: _containers.RepeatedScalarFieldContainer[bytes]
    need_items: _containers.RepeatedCompositeFieldContainer[_interests_pb2.RecentItem]
    interests: _interests_pb2.Interests
    closed_blocks: _containers.RepeatedCompositeFieldContainer[Block]
    reason: str
    def __init__(self, status: _Optional[_Union[ResultStatus, str]] = ..., need_blocks: _Optional[_Iterable[bytes]] = ..., need_items: _Optional[_Iterable[_Union[_interests_pb2.RecentItem, _Mapping]]] = ..., interests: _Optional[_Union[_interests_pb2.Interests, _Mapping]] = ..., closed_blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class EncodeItemsRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ItemText]
    def __init__(self, items: _Optional[_Iterable[_Union[ItemText, _Mapping]]] = ...) -> None: ...

class EncodeItemsResponse(_message.Message):
    __slots__ = ("model_version", "codebook_version", "items")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CODEBOOK_VERSION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    codebook_version: str
    items: _containers.RepeatedCompositeFieldContainer[EncodedItem]
    def __init__(self, model_version: _Optional[str] = ..., codebook_version: _Optional[str] = ..., items: _Optional[_Iterable[_Union[EncodedItem, _Mapping]]] = ...) -> None: ...

class EncodedItem(_message.Message):
    __slots__ = ("item_id", "text_digest", "embedding", "codes", "reason")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    text_digest: int
    embedding: _items_pb2.Embedding
    codes: _items_pb2.ItemCodes
    reason: str
    def __init__(self, item_id: _Optional[str] = ..., text_digest: _Optional[int] = ..., embedding: _Optional[_Union[_items_pb2.Embedding, _Mapping]] = ..., codes: _Optional[_Union[_items_pb2.ItemCodes, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class EncodeSessionRequest(_message.Message):
    __slots__ = ("tenant", "events", "tier")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    events: _containers.RepeatedCompositeFieldContainer[SessionEvent]
    tier: _interests_pb2.Tier
    def __init__(self, tenant: _Optional[str] = ..., events: _Optional[_Iterable[_Union[SessionEvent, _Mapping]]] = ..., tier: _Optional[_Union[_interests_pb2.Tier, str]] = ...) -> None: ...

class SessionEvent(_message.Message):
    __slots__ = ("item_id", "action", "event_time_ms", "text")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    action: str
    event_time_ms: int
    text: str
    def __init__(self, item_id: _Optional[str] = ..., action: _Optional[str] = ..., event_time_ms: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class EncodeSessionResponse(_message.Message):
    __slots__ = ("interests", "unknown_item_ids")
    INTERESTS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    interests: _interests_pb2.Interests
    unknown_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, interests: _Optional[_Union[_interests_pb2.Interests, _Mapping]] = ..., unknown_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelInfoResponse(_message.Message):
    __slots__ = ("model_version", "codebook_version", "model_sequence", "dim", "n_interests", "n_levels", "segment_size", "recent_size", "n_blocks", "block_bytes", "block_depth", "device")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CODEBOOK_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    N_INTERESTS_FIELD_NUMBER: _ClassVar[int]
    N_LEVELS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    RECENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    N_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BYTES_FIELD_NUMBER: _ClassVar[int]
    BLOCK_DEPTH_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    codebook_version: str
    model_sequence: int
    dim: int
    n_interests: int
    n_levels: int
    segment_size: int
    recent_size: int
    n_blocks: int
    block_bytes: int
    block_depth: int
    device: str
    def __init__(self, model_version: _Optional[str] = ..., codebook_version: _Optional[str] = ..., model_sequence: _Optional[int] = ..., dim: _Optional[int] = ..., n_interests: _Optional[int] = ..., n_levels: _Optional[int] = ..., segment_size: _Optional[int] = ..., recent_size: _Optional[int] = ..., n_blocks: _Optional[int] = ..., block_bytes: _Optional[int] = ..., block_depth: _Optional[int] = ..., device: _Optional[str] = ...) -> None: ...
