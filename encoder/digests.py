"""Digests of what a run reads: one that goes on notices that its data are others now.

Of any amount, in bounded memory: columns are hashed piece by piece. xxh3, 64 bits, guards against
accidents, not against forgers.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xxhash

from encoder.progress import OnCount, uncounted

AT_ONCE = 100_000
"""Texts or events."""
BYTES_AT_ONCE = 1 << 24
READ = (".json", ".safetensors", ".bin", ".model", ".txt")
"""Suffixes of what transformers reads in a checkpoint's folder."""


def of_texts(*columns: Sequence[str]) -> str:
    """Return the digest of columns of texts, in their order."""
    digest = xxhash.xxh3_64()
    for column in columns:
        digest.update(len(column).to_bytes(8, "little"))
        for begin in range(0, len(column), AT_ONCE):
            some = [text.encode() for text in column[begin : begin + AT_ONCE]]
            digest.update(np.array([len(text) for text in some], "<u4").tobytes())
            digest.update(b"".join(some))
    return digest.hexdigest()


def of_checkpoint(folder: Path, progress: OnCount = uncounted) -> str:
    """Return the digest of an LLM's files, of none where there is no such folder.

    Args:
        progress: hears of the MB.
    """
    digest = xxhash.xxh3_64()
    files = [one for one in sorted(folder.glob("*")) if one.suffix in READ and one.is_file()]
    sizes = [file.stat().st_size for file in files]
    n_done, n_bytes = 0, sum(sizes)
    for file, size in zip(files, sizes, strict=True):
        digest.update(f"{file.name} {size}\n".encode())
        for part in _parts(file):
            digest.update(part)
            n_done += len(part)
            progress(n_done // 1_000_000, n_bytes // 1_000_000)
    return digest.hexdigest()


def _parts(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while part := opened.read(BYTES_AT_ONCE):
            yield part
