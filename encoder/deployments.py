"""Which model came after which: a number that grows with every deployment, rollbacks too.

Interests of a newer deployment replace older ones (design section 3). With one replica its own disk
counts; with several the operator gives the number (FRESHET_ENCODER_MODEL_SEQUENCE).
"""

import json
import os
from pathlib import Path

from protos.errors import NotReady


def next_sequence(record: Path, model_version: str) -> int:
    """Return the number of this deployment; the same model as the last start keeps its number.

    Raises NotReady when the record is damaged.
    """
    last = _read(record)
    if last is not None and last[0] == model_version:
        return last[1]
    sequence = 1 if last is None else last[1] + 1
    record.parent.mkdir(parents=True, exist_ok=True)
    fresh = record.with_suffix(".new")
    fresh.write_text(json.dumps({"model_version": model_version, "sequence": sequence}))
    os.replace(fresh, record)
    return sequence


def _read(record: Path) -> tuple[str, int] | None:
    try:
        found = json.loads(record.read_bytes())
        return str(found["model_version"]), int(found["sequence"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise NotReady(
            f"{record} is damaged; set FRESHET_ENCODER_MODEL_SEQUENCE above any number used so far"
        ) from error
