"""All logs of the stack as one stream, each line with its service's name in front.

supervisord writes one file a service and renames it at 10 MB; a tail notices by the inode, reads
the old file to its end, and goes on with the new one.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

_MAX_LINE = 20_000
_CHUNK_BYTES = 2**20


class LogTail:
    """The lines that are appended to one file, which may not exist yet."""

    def __init__(self, path: Path, *, from_end: bool) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""
        if from_end and self._open():
            self._seek_end()

    def read(self) -> Iterator[str]:
        """Yield the whole lines that have come since the last call."""
        if self._file is None and not self._open():
            return
        yield from self._lines()
        if self._was_rotated():
            yield from self._lines()
            self.close()
            if self._open():
                yield from self._lines()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _open(self) -> bool:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return False
        return True

    def _seek_end(self) -> None:
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def _was_rotated(self) -> bool:
        if self._file is None:
            return False
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return True
        held = os.fstat(self._file.fileno())
        return (found.st_ino, found.st_dev) != (held.st_ino, held.st_dev)

    def _lines(self) -> Iterator[str]:
        if self._file is None:
            return
        while chunk := self._file.read(_CHUNK_BYTES):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            # A line without an end, such as a progress bar's, must not fill the memory.
            self._rest = self._rest[-_MAX_LINE:]
            for line in lines:
                yield line.decode(errors="replace")[:_MAX_LINE].rstrip("\r")


class LogStream:
    """The tails of several services, read in turn.

    Args:
        write: gets a service's name and a line.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        write: Callable[[str, str], None],
        *,
        from_end: bool = True,
    ) -> None:
        self._write = write
        self._tails = {name: LogTail(folder / f"{name}.log", from_end=from_end) for name in names}

    def pump(self) -> None:
        """Write what has come since the last call."""
        for name, tail in self._tails.items():
            for line in tail.read():
                self._write(name, line)

    def close(self) -> None:
        for tail in self._tails.values():
            tail.close()


def last_lines(path: Path, n: int, *, after_bytes: int = 0) -> list[str]:
    """Return the last `n` lines of a log, of those written after its first `after_bytes`; none
    of a missing one."""
    try:
        with path.open("rb") as file:
            if after_bytes <= os.fstat(file.fileno()).st_size:  # else it was rotated since
                file.seek(after_bytes)
            lines = deque(file, maxlen=n)
    except FileNotFoundError:
        return []
    return [line.decode(errors="replace").rstrip("\r\n") for line in lines]


def size_bytes(path: Path) -> int:
    """Return how long a log is now; 0 for a missing one."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
