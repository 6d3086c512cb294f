"""An encoder of one's own, for a bundle that is not deployed, as long as a question lasts."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.stack.ports import PortReservations
from infra.stack.probes import Probe
from protos.errors import FreshetError

READY_S = 300.0
"""Compiling takes a minute or two of it, once."""
STOP_S = 10.0


@contextmanager
def serve_bundle(bundle: Path, **settings: object) -> Iterator[str]:
    """Start an encoder on free ports, give its address once it serves, and stop it.

    Args:
        settings: others of encoder/settings.py.

    Raises FreshetError, with the encoder's own last words, when it cannot serve the bundle.
    """
    with tempfile.TemporaryDirectory(prefix="freshet-model-") as folder:
        with PortReservations(folder) as ports:
            address = f"127.0.0.1:{ports.choose('encoder')}"
            environment = {
                "FRESHET_STATE": folder,
                "FRESHET_ENCODER_BUNDLE": str(bundle.resolve()),
                "FRESHET_ENCODER_LISTEN": address,
                "FRESHET_ENCODER_FOLLOW_ITEMS": "false",
                "FRESHET_ENCODER_METRICS_PORT": str(ports.choose("metrics")),
            } | {f"FRESHET_ENCODER_{name.upper()}": str(one) for name, one in settings.items()}
        log = Path(folder) / "encoder.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "encoder.server"],
                env=os.environ | environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        try:
            _await(process, address, bundle, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(process: "subprocess.Popen[bytes]", address: str, bundle: Path, log: Path) -> None:
    gives_up_at = time.monotonic() + READY_S
    while not Probe("grpc", address).is_healthy():
        if process.poll() is None and time.monotonic() < gives_up_at:
            time.sleep(0.2)
            continue
        words = log.read_text(errors="replace").strip().splitlines()
        last = words[-1] if words else "it said nothing"
        raise FreshetError(f"no encoder serves the bundle {bundle}: {last}")
