"""The `freshet` command as a user calls it, on a state folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

FRESHET = str(Path(sys.executable).with_name("freshet"))


def freshet(state: Path, *words: str, may_fail: bool = False) -> str:
    """Return what it says on standard output. Raises AssertionError when it fails."""
    environment = os.environ | {"FRESHET_STATE": str(state)}
    done = subprocess.run(
        [FRESHET, *words], env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    said = f"freshet {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
    assert may_fail or done.returncode == 0, said
    return done.stdout
