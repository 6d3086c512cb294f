"""What histories cost at rest: the bytes of a stopped worker's own RocksDB, kind by kind."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rocksdict import Options, Rdict

from protos.segments import Segment
from stream.store import HEAD, PUBLISHED, SEGMENT


@dataclass(frozen=True, slots=True)
class StoreSize:
    """Bytes of compacted SST files, and what lies in them."""

    n_segments: int
    n_segment_events: int
    segment_bytes: int
    n_heads: int
    head_bytes: int
    published_bytes: int

    @property
    def bytes_per_event(self) -> float:
        """Of closed segments: keys, values, bloom filters, indices."""
        return self.segment_bytes / self.n_segment_events if self.n_segment_events else 0.0

    @property
    def bytes_per_head(self) -> float:
        return self.head_bytes / self.n_heads if self.n_heads else 0.0


def measure_store(folder: Path) -> StoreSize:
    """Measure every partition of a stopped worker's folder. Works on a copy of it.

    A kind's bytes are what the compacted files shrink by when all else was deleted from them.
    """
    n_segments = n_events = n_heads = 0
    sizes = dict.fromkeys((SEGMENT, HEAD, PUBLISHED), 0)
    with tempfile.TemporaryDirectory(prefix="freshet-store-") as scratch:
        for number, path in enumerate(sorted(folder.glob("**/histories-*.db"))):
            for kind in sizes:
                copy = Path(scratch) / f"{number}-{kind.decode()}"
                shutil.copytree(path, copy)
                sizes[kind] += _only(copy, kind)
            db = Rdict(str(path), options=Options(raw_mode=True))
            for key, value in _entries(db):
                if key[:1] == SEGMENT:
                    n_segments += 1
                    n_events += len(Segment.from_bytes(value))
                n_heads += key[:1] == HEAD
            db.close()
    return StoreSize(n_segments, n_events, sizes[SEGMENT], n_heads, sizes[HEAD], sizes[PUBLISHED])


def _only(path: Path, kind: bytes) -> int:
    """Return the bytes of a database when it holds one kind of key alone."""
    db = Rdict(str(path), options=Options(raw_mode=True))
    try:
        for key, _ in _entries(db):
            if key[:1] != kind:
                db.delete(key)
        db.flush()
        db.compact_range(None, None)
        return sum(file["size"] for file in db.live_files())
    finally:
        db.close()


def _entries(db: Rdict) -> Iterator[tuple[bytes, bytes]]:
    for key, value in db.items():
        assert isinstance(key, bytes)  # raw mode
        assert isinstance(value, bytes)
        yield key, value
