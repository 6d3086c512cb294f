"""The stub encoder in a process of its own: `python -m stream.bench.stub_process`.

So that answering takes no time from the process that measures. It prints its address as one line
and serves until its standard input ends, which it does with whoever started it, however that ends.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from protos.errors import FreshetError
from stream.bench.stub_encoder import StubEncoder

_STOP_S = 15.0


@contextmanager
def stub_encoder_process() -> Iterator[str]:
    """Serve while the block runs; the address is given."""
    command = [sys.executable, "-m", "stream.bench.stub_process"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise FreshetError("the stub encoder did not start; its error stands above")
            yield address
        finally:
            process.stdin.close()
            process.wait(_STOP_S)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started it
    encoder = StubEncoder().start()
    print(encoder.address, flush=True)
    sys.stdin.read()
    encoder.stop()


if __name__ == "__main__":
    main()
