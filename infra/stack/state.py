"""The state folder: what is Freshet's in it, who may use it, and how it is emptied.

    freshet-state.json   marks the folder as ours; without it nothing is ever deleted here
    stack.json           what is running and where (endpoints.py reads it)
    owner                pid of the foreground launcher; absent when nobody in particular owns it
    run/                 supervisord.conf, its socket, log and pid file
    logs/                one log a service
    kafka/ milvus/ stream/ retrieval/ encoder/ data/ bundle/ bundle.run/ ...   what the parts keep

Its id is a hash of its path, so that processes of an earlier run are found even where the folder
itself has been deleted in between.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.endpoints import DEFAULT_STATE, STACK_FILE
from infra.stack.ports import private_folder
from protos.errors import NotReady

STATE_FILE = "freshet-state.json"
FORMAT = 1
# What Freshet makes in a state folder; nothing else in it is ever deleted.
OURS = frozenset(
    {"kafka", "milvus", "stream", "retrieval", "encoder", "jars", "logs", "run", "data", "bundle"}
    | {"bundle.run", "training", "bench", "owner", "lock", STACK_FILE, STATE_FILE}
)
# A unix socket's path is limited to 107 bytes; supervisord appends its pid while it binds.
_MAX_SOCKET_BYTES = 95


@dataclass(frozen=True, slots=True)
class StateFolder:
    """One state folder, by its absolute path."""

    path: Path

    @classmethod
    def at(cls, path: Path | None = None) -> "StateFolder":
        """Return the folder `path`, by default FRESHET_STATE or .freshet; nothing is created."""
        chosen = path or Path(os.environ.get("FRESHET_STATE") or DEFAULT_STATE)
        return cls(chosen.expanduser().resolve())

    @property
    def state_id(self) -> str:
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:16]

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    @property
    def stack_file(self) -> Path:
        return self.path / STACK_FILE

    @property
    def socket(self) -> Path:
        """Return where supervisord listens; a state folder with a long path has it elsewhere."""
        inside = self.run / "supervisor.sock"
        if len(os.fsencode(inside)) <= _MAX_SOCKET_BYTES:
            return inside
        return private_folder() / f"{self.state_id}.sock"

    def is_ours(self) -> bool:
        return (self.path / STATE_FILE).is_file()

    def claim(self) -> None:
        """Make the folder a state folder.

        Raises:
            NotReady: it holds things that are not Freshet's, so it may be somebody's home.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.is_ours():
            strange = sorted(entry.name for entry in self.path.iterdir() if entry.name not in OURS)
            if strange:
                raise NotReady(
                    f"{self.path} is not empty and not a Freshet state folder (it holds "
                    f"{strange[0]}); choose another one with FRESHET_STATE"
                )
            write_atomically(self.path / STATE_FILE, json.dumps({"format": FORMAT}) + "\n")
        for folder in (self.run, self.logs):
            folder.mkdir(exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for starting or emptying it; one process at a time.

        Raises:
            NotReady: another process holds it.
        """
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise NotReady(
                    f"another freshet is starting or emptying {self.path}; wait for it to finish"
                ) from error
            yield

    def own(self, pid: int | None) -> None:
        """Say whose end shall end the stack (guard.py); None: nobody's."""
        if pid is None:
            (self.path / "owner").unlink(missing_ok=True)
        else:
            write_atomically(self.path / "owner", str(pid))

    def owner(self) -> int | None:
        try:
            return int((self.path / "owner").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def purge(self) -> list[str]:
        """Delete everything of Freshet's in the folder, then the folder if nothing else is in it.

        Return the names that were not Freshet's and are still there. Call it `locked`, and only
        when nothing runs.

        Raises:
            NotReady: the folder is not a state folder.
        """
        if not self.is_ours():
            raise NotReady(
                f"{self.path} is not a Freshet state folder (no {STATE_FILE} in it); "
                "nothing was deleted"
            )
        # The mark goes last: an interrupted purge can be taken up again.
        for name in [*sorted(OURS - {STATE_FILE}), STATE_FILE]:
            _delete(self.path / name)
        left = sorted(entry.name for entry in self.path.iterdir())
        if not left:
            self.path.rmdir()
        return left


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old one or the new one, whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
