"""Keys and small values of the history store: one RocksDB a partition, and its changelog topic.

One byte in front says what a key holds; U is the user's key (protos/keys.py):

    h U             head                          protos/history.py
    s U u32-BE      closed segment by its index   protos/segments.py
    p U             what was last published       `Published`, below
    o               offset of the next record of rec.events that this partition expects, i64
    c               who claimed the partition last (stream/changelog.py), for people

Big-endian indices keep a user's segments in order. The changelog topic has the same keys and
values, so faust's own recovery fills an empty disk from it.

Published, little-endian:

    u8 format = 1 | u8 tier | i64 encoded_offset | i64 model_sequence | u64 n_events | model_version
"""

import struct
from dataclasses import dataclass

from protos.errors import VersionMismatch

HEAD, SEGMENT, PUBLISHED = b"h", b"s", b"p"
POSITION_KEY = b"o"
CLAIM_KEY = b"c"

N_KEPT_SEGMENTS = 64
"""8,192 events at S = 128; older segments are dropped."""

FORMAT = 1
_POSITION = struct.Struct("<q")
_PUBLISHED = struct.Struct("<BBqqQ")
_INDEX = struct.Struct(">I")
# Where watermark and n_events stand in a head's bytes (protos/history.py).
_WATERMARK = struct.Struct("<q")
_WATERMARK_AT = 5
_N_EVENTS = struct.Struct("<Q")
_N_EVENTS_AT = _WATERMARK_AT + 8


def head_key(user_key: bytes) -> bytes:
    return HEAD + user_key


def segment_key(user_key: bytes, index: int) -> bytes:
    return SEGMENT + user_key + _INDEX.pack(index)


def published_key(user_key: bytes) -> bytes:
    return PUBLISHED + user_key


def pack_position(offset: int) -> bytes:
    return _POSITION.pack(offset)


def unpack_position(value: bytes) -> int:
    (offset,) = _POSITION.unpack(value)
    return int(offset)


def head_watermark(head: bytes) -> int:
    """Return the watermark of a head without reading the rest."""
    (watermark,) = _WATERMARK.unpack_from(head, _WATERMARK_AT)
    return int(watermark)


def head_has_events(head: bytes) -> bool:
    """Whether a user has events, without reading the rest."""
    (n_events,) = _N_EVENTS.unpack_from(head, _N_EVENTS_AT)
    return bool(n_events)


@dataclass(frozen=True, slots=True)
class Published:
    """What the world was last told of a user."""

    encoded_offset: int
    model_version: str = ""
    """Empty when the state had no interests: an erased user, or one without an event that
    counts."""
    model_sequence: int = 0
    tier: int = 0
    n_events: int = 0

    def to_bytes(self) -> bytes:
        fixed = (FORMAT, self.tier, self.encoded_offset, self.model_sequence, self.n_events)
        return _PUBLISHED.pack(*fixed) + self.model_version.encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> "Published":
        version, tier, encoded_offset, sequence, n_events = _PUBLISHED.unpack_from(value)
        if version != FORMAT:
            raise VersionMismatch(
                f"what was last published has format {version}, this version reads {FORMAT}; "
                "upgrade this worker"
            )
        model_version = value[_PUBLISHED.size :].decode()
        return cls(encoded_offset, model_version, sequence, tier, n_events)

    def is_current(self, watermark: int, model_version: str) -> bool:
        """Whether the user is owed nothing."""
        known = self.model_version in ("", model_version)
        return known and self.encoded_offset >= watermark
