from protos.rec.v1 import recommend_pb2 as _recommend_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PageState(_message.Message):
    __slots__ = ("recommendation_id", "query", "hidden_hashes")
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_HASHES_FIELD_NUMBER: _ClassVar[int]
    recommendation_id: str
    query: _recommend_pb2.FeedQuery
    hidden_hashes: bytes
    def __init__(self, recommendation_id: _Optional[str] = ..., query: _Optional[_Union[_recommend_pb2.FeedQuery, _Mapping]] = ..., hidden_hashes: _Optional[bytes] = ...) -> None: ...
