"""`python -m stream.worker`, nothing less: started, asked, paused and killed."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from protos.errors import FreshetError

WAIT_S = 90.0


class WorkerProcess:
    """One worker. Its RocksDB lies in `folder`; its log beside it."""

    def __init__(self, name: str, state: Path, environment: dict[str, str]) -> None:
        """
        Args:
            state: the state folder, shared with other workers.
            environment: FRESHET_... settings; those of the name, state and metrics are added.
        """
        self.name, self.port = name, free_port()
        self.folder = state / "stream" / name
        self._log_path = state / f"{name}.log"
        self._env = os.environ | {
            "FRESHET_STATE": str(state),
            "FRESHET_STREAM_INSTANCE": name,
            "FRESHET_STREAM_METRICS_PORT": str(self.port),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "WorkerProcess":
        command = [sys.executable, "-m", "stream.worker"]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log)
        return self

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self) -> "WorkerProcess":
        wait_for(self._is_ready, "the worker did not get ready")
        return self

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise FreshetError(f"the worker exited: {self.log()[-4000:]}")
        return bool(self.metrics())

    def metrics(self) -> dict[str, float]:
        """Return all samples by name with labels; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            return {}
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name.removeprefix("freshet_stream_"): float(value) for name, value in samples}

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def wait(self, timeout_s: float) -> int:
        """Return the exit code."""
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(30)

    def log(self) -> str:
        """Return all it has said; "" before its first start."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""


def wait_for(condition: Callable[[], object], message: str, timeout_s: float = WAIT_S) -> None:
    """Ask until it is true. Raises FreshetError at the end of the patience."""
    gives_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > gives_up_at:
            raise FreshetError(message)
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
