"""Ports that are free, and stay ours until whoever is to listen does.

Asked for is a wished port (9092); where it is taken, one of 20000-31999 in an order that depends
on the state folder and the name alone: below the system's ephemeral range, so that no outgoing
connection takes it while a service restarts, and the same again at the next start.
Between choosing and listening a port is reserved by a lock on a file of the user's, so that two
stacks that start at the same moment do not choose alike.
"""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from protos.errors import NotReady

FALLBACK = range(20_000, 32_000)


class PortReservations:
    """A context in which chosen ports are reserved; on leaving it they are left to listeners."""

    def __init__(self, seed: str, folder: Path | None = None) -> None:
        self._seed = seed
        self._folder = folder or private_folder()
        self._held: dict[int, IO[str]] = {}

    def __enter__(self) -> "PortReservations":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._held:
            self._held.popitem()[1].close()

    def choose(self, name: str, wished: int | None = None) -> int:
        """Return the wished port if nobody has it, else a free one."""
        for port in _candidates(f"{self._seed}/{name}", wished):
            if port not in self._held and is_free(port) and self._reserve(port):
                return port
        raise NotReady(f"no free port for {name} in {FALLBACK.start}-{FALLBACK.stop - 1}")

    def _reserve(self, port: int) -> bool:
        file = (self._folder / f"port-{port}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._held[port] = file
        return True


def _candidates(seed: str, wished: int | None) -> Iterator[int]:
    if wished is not None:
        yield wished
    yield from random.Random(seed).sample(FALLBACK, 1_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port, on every interface.

    SO_REUSEADDR, as servers set it: connections of the last run in TIME_WAIT do not count.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def private_folder() -> Path:
    """Return a short-named folder for this user's sockets and locks, made if it is missing."""
    folder = Path(tempfile.gettempdir()) / f"freshet-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise NotReady(f"{folder} is not a private folder of this user; remove it, or set TMPDIR")
    return folder
