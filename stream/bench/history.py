"""`freshet bench history`: what long histories cost at rest, and what coding them loses.

Users with 2,048 synthetic events each go through Kafka and a worker; its stopped store is weighed.
What the codes lose is the encoder's to say (encoder/bench/codes.py, a process of its own).
"""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from infra.bench import Result
from infra.datasets.report import ImportReport
from infra.datasets.tables import EVENTS_SCHEMA, ITEMS_SCHEMA, Dataset, DatasetReport
from protos.errors import FreshetError
from stream.bench.backfill import replayed
from stream.bench.storage import StoreSize, measure_store

N_EVENTS = 2_048
N_USERS, QUICK_USERS = 200, 20
N_ITEMS = 10_000
START_MS, GAP_MS = 1_700_000_000_000, 3_600_000
"""The first event, and the mean time between two."""
BYTES_BAR, BLOCK_BAR, RECALL_BAR = 12, 32, 0.99

console = Console(stderr=True)


def history(quick: bool) -> Result:
    """Measure and judge; bars by design section 8."""
    size = _weighed(QUICK_USERS if quick else N_USERS)
    codes = _codes(quick)
    figures = {
        "bytes_per_event": round(size.bytes_per_event, 2),
        "bytes_per_head": round(size.bytes_per_head),
        "n_closed_events": size.n_segment_events,
        **codes,
    }
    ok = (
        size.bytes_per_event <= BYTES_BAR
        and codes["block_bytes_per_event"] <= BLOCK_BAR
        and codes["recall_ratio"] >= RECALL_BAR
    )
    bar = {
        "bytes_per_event": f"<= {BYTES_BAR}",
        "block_bytes_per_event": f"<= {BLOCK_BAR}",
        "recall_ratio": f">= {RECALL_BAR}",
    }
    return Result(figures=figures, bar=bar, ok=ok)


def _weighed(n_users: int) -> StoreSize:
    dataset = synthetic(n_users, np.random.default_rng(0))
    with replayed(dataset) as found, console.status("weighing the store"):
        return measure_store(found.worker.folder)


def synthetic(n_users: int, rng: np.random.Generator) -> Dataset:
    """Return users with 2,048 views each, at random times, of random items."""
    gaps = rng.exponential(GAP_MS, (n_users, N_EVENTS)).astype(np.int64)
    columns = {
        "user_id": np.repeat([f"user-{n}" for n in range(n_users)], N_EVENTS),
        "item_id": [f"item-{n}" for n in rng.integers(0, N_ITEMS, n_users * N_EVENTS)],
        "event_time_ms": (START_MS + gaps.cumsum(axis=1)).ravel(),
        "action": ["view"] * (n_users * N_EVENTS),
        "value": pa.nulls(n_users * N_EVENTS, pa.float64()),
    }
    titles = [f"item {n}" for n in range(N_ITEMS)]
    items = {
        "item_id": [f"item-{n}" for n in range(N_ITEMS)],
        "title": titles,
        "text": titles,
        "categories": [["synthetic"]] * N_ITEMS,
        "created_at_ms": pa.nulls(N_ITEMS, pa.int64()),
    }
    events = pa.table(columns, schema=EVENTS_SCHEMA).sort_by("event_time_ms")
    report = DatasetReport(ImportReport(len(events)), ImportReport(N_ITEMS), ("synthetic",))
    return Dataset("synthetic", events, pa.table(items, schema=ITEMS_SCHEMA), report)


def _codes(quick: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "encoder.bench.codes", *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise FreshetError(f"{' '.join(command[1:])} failed with {done.returncode}; see above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
