"""Segments of a history: S events as columns, at 11 bytes and a bit an event.

Layout, little-endian (n events, Q levels):

    u8 format = 1 | u8 Q | u16 n | i64 first event_time_ms
    n x u32 item hash | n x u8 action | n x u16 gap                       <- exact part ends here
    u64 codebook_version | ceil(n/8) bytes "has codes", bit i%8 of byte i/8 | n x Q x u8 codes

The exact part is a function of rec.events alone; codes come last, because they are a function of
the item and the codebook, and may be missing while the catalogue lacks the item. Codes that are
missing are zeros.
"""

import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import xxhash

from protos.errors import VersionMismatch

FORMAT = 1
NO_CODEBOOK = 0

_SEGMENT = struct.Struct("<BBHq")
_CODEBOOK = struct.Struct("<Q")

CodesOf = Callable[[int], bytes | None]
"""(u32 item hash) -> the item's Q codes, or None while they are unknown."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A segment as read-only arrays, oldest event first."""

    hashes: npt.NDArray[np.uint32]  # (n,)
    actions: npt.NDArray[np.uint8]  # (n,)
    gaps: npt.NDArray[np.uint16]  # (n,)
    codes: npt.NDArray[np.uint8]  # (n, Q); zeros where not coded
    coded: npt.NDArray[np.bool_]  # (n,)
    codebook_version: int


@dataclass(slots=True)
class Segment:
    """Events as columns that grow. One owner; `to_bytes` is what is stored and sent."""

    n_levels: int
    first_event_time_ms: int = 0
    codebook_version: int = NO_CODEBOOK
    hashes: bytearray = field(default_factory=bytearray)
    actions: bytearray = field(default_factory=bytearray)
    gaps: bytearray = field(default_factory=bytearray)
    codes: bytearray = field(default_factory=bytearray)
    coded: bytearray = field(default_factory=bytearray)
    """One byte an event here, one bit in the bytes."""

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def n_missing(self) -> int:
        """Events without codes."""
        return self.coded.count(0)

    def extend(
        self,
        item_hashes: Sequence[int],
        actions: Sequence[int],
        gaps: Sequence[int],
        codes: Sequence[bytes | None],
    ) -> None:
        """Add events, oldest first; a million of them one by one would take twice as long."""
        n_events, missing = len(item_hashes), bytes(self.n_levels)
        self.hashes += struct.pack(f"<{n_events}I", *item_hashes)
        self.actions += bytes(actions)
        self.gaps += struct.pack(f"<{n_events}H", *gaps)
        self.codes += b"".join([missing if one is None else one for one in codes])
        self.coded += bytes([one is not None for one in codes])

    def use_codebook(self, version: int) -> None:
        """Make `version` the codebook of the segment; codes of another one become missing."""
        if version == self.codebook_version:
            return
        self.codebook_version = version
        self.codes[:] = bytes(len(self.codes))
        self.coded[:] = bytes(len(self.coded))

    def fill_codes(self, codes_of: CodesOf) -> int:
        """Look up codes that are missing; return how many were found."""
        n_filled = 0
        start = self.coded.find(0)
        while start >= 0:
            codes = codes_of(int.from_bytes(self.hashes[4 * start : 4 * start + 4], "little"))
            if codes is not None:
                self.codes[start * self.n_levels : (start + 1) * self.n_levels] = codes
                self.coded[start] = 1
                n_filled += 1
            start = self.coded.find(0, start + 1)
        return n_filled

    def to_bytes(self) -> bytes:
        bits = np.packbits(np.frombuffer(self.coded, np.uint8), bitorder="little").tobytes()
        return b"".join(
            (
                _SEGMENT.pack(FORMAT, self.n_levels, len(self), self.first_event_time_ms),
                self.hashes,
                self.actions,
                self.gaps,
                _CODEBOOK.pack(self.codebook_version),
                bits,
                self.codes,
            )
        )

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Segment":
        """Raises VersionMismatch for another format and ValueError for bytes of a wrong length."""
        n_levels, n_events, first_ms, cuts = _segment_cuts(blob)
        parts = [blob[begin:end] for begin, end in itertools.pairwise(cuts)]
        hashes, actions, gaps, version, bits, codes = parts
        coded = np.unpackbits(np.frombuffer(bits, np.uint8), count=n_events, bitorder="little")
        return cls(
            n_levels,
            first_ms,
            _CODEBOOK.unpack(version)[0],
            bytearray(hashes),
            bytearray(actions),
            bytearray(gaps),
            bytearray(codes),
            bytearray(coded.tobytes()),
        )


def _segment_cuts(blob: bytes) -> tuple[int, int, int, list[int]]:
    """Return Q, n, first_event_time_ms and where each column begins and the last one ends."""
    if len(blob) < _SEGMENT.size:
        raise ValueError(f"a segment has at least {_SEGMENT.size} bytes, got {len(blob)}")
    version, n_levels, n, first_ms = _SEGMENT.unpack_from(blob)
    check_format("segment", version, FORMAT)
    sizes = (4 * n, n, 2 * n, _CODEBOOK.size, (n + 7) // 8, n * n_levels)
    cuts = list(itertools.accumulate(sizes, initial=_SEGMENT.size))
    if cuts[-1] != len(blob):
        raise ValueError(f"a segment of {n} events has {cuts[-1]} bytes, got {len(blob)}")
    return n_levels, n, first_ms, cuts


def segment_columns(blob: bytes) -> Columns:
    """View a segment's bytes as arrays, without copying. Raises as `Segment.from_bytes`."""
    n_levels, n, _, cuts = _segment_cuts(blob)
    bits = np.frombuffer(blob, np.uint8, count=(n + 7) // 8, offset=cuts[4])
    return Columns(
        hashes=np.frombuffer(blob, "<u4", count=n, offset=cuts[0]),
        actions=np.frombuffer(blob, np.uint8, count=n, offset=cuts[1]),
        gaps=np.frombuffer(blob, "<u2", count=n, offset=cuts[2]),
        codes=np.frombuffer(blob, np.uint8, count=n * n_levels, offset=cuts[5]).reshape(
            n, n_levels
        ),
        coded=np.unpackbits(bits, count=n, bitorder="little").view(np.bool_),
        codebook_version=_CODEBOOK.unpack_from(blob, cuts[3])[0],
    )


def exact_part(segment: bytes) -> bytes:
    """Return the bytes of a segment that are a function of the log alone: all but the codes."""
    _, _, _, cuts = _segment_cuts(segment)
    return segment[: cuts[3]]


DIGEST_BYTES = 16
"""Of a block's name."""


def split_digests(names: bytes) -> list[bytes]:
    """Return the names of blocks that stand one behind the other; what is left of one, too."""
    return [names[at : at + DIGEST_BYTES] for at in range(0, len(names), DIGEST_BYTES)]


def block_digests(model_version: str, segments: Iterable[bytes], depth: int) -> list[bytes]:
    """Return the 16-byte name of each closed segment's memory block.

    A block is a function of the model, its segment and at most `depth` segments before it, so its
    name covers just these: dropping older ones (retention) renames nothing that is still exact.

    Args:
        segments: bytes of consecutive closed segments, oldest first.
        depth: `block_depth` of the model.
    """
    seed = model_version.encode() + b"\0"
    names = [xxhash.xxh3_128_digest(segment) for segment in segments]
    return [
        xxhash.xxh3_128_digest(seed + b"".join(names[max(0, i - depth) : i + 1]))
        for i in range(len(names))
    ]


def check_format(what: str, version: int, known: int) -> None:
    if version != known:
        raise VersionMismatch(
            f"{what} has format {version}, this version reads {known}; "
            "upgrade this process, or fold the log again with the old state removed"
        )
