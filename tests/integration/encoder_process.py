"""An encoder of a test's own: the real process, on ports of its own."""

import os
import signal
import subprocess
import sys
import time

from infra.stack.probes import Probe


class EncoderProcess:
    def __init__(self, bundle, folder, ports, name, **settings):
        self.address = f"127.0.0.1:{ports.choose(name)}"
        self._environment = os.environ | {
            "FRESHET_STATE": str(folder / name),
            "FRESHET_ENCODER_BUNDLE": str(bundle),
            "FRESHET_ENCODER_LISTEN": self.address,
            "FRESHET_ENCODER_METRICS_PORT": str(ports.choose(f"{name} metrics")),
            "FRESHET_ENCODER_FOLLOW_ITEMS": "false",
            **{f"FRESHET_{name}".upper(): str(one) for name, one in settings.items()},
        }

    def start(self):
        command = [sys.executable, "-m", "encoder.server"]
        self._process = subprocess.Popen(
            command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    def wait_ready(self):
        gives_up_at = time.monotonic() + 120
        while not Probe("grpc", self.address).is_healthy():
            assert self._process.poll() is None
            assert time.monotonic() < gives_up_at
            time.sleep(0.1)

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
