"""Users a second of the bare model step: `python -m encoder.bench.step BUNDLE BATCH` prints it.

Prebuilt batches of users with 2,048 events and some, each gone on from by one event: what a worker
could do at most, if answering, checking and queueing cost nothing.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from encoder.bench.forward import whole_history
from encoder.bundle import load_bundle
from encoder.engine import Engine, UserInput
from encoder.evaluate import Served
from infra.malloc import keep_freed_memory

N_EVENTS, N_OFFSETS = 2_048 + 8, 100
LEAST_S = 3.0


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    bundle = load_bundle(Path(sys.argv[1]))
    engine, served = Engine(bundle), Served(bundle)
    users = []
    for place in range(int(sys.argv[2])):
        n_events = N_EVENTS + place % N_OFFSETS
        before, after = (whole_history(served, bundle, n) for n in (n_events, n_events + 1))
        users.append(gone_on(engine, before, after))
    engine.refresh(users, keep_past=True)
    start, n_done = time.perf_counter(), 0
    while time.perf_counter() < start + LEAST_S:
        engine.refresh(users, keep_past=True)
        n_done += len(users)
    print(n_done / (time.perf_counter() - start))


def gone_on(engine: Engine, before: UserInput, after: UserInput) -> UserInput:
    """Return a user after one more event, with what the refresh before left."""
    digests = [place.to_bytes(16, "big") for place in range(len(before.blocks))]
    first = engine.refresh([replace(before, digests=digests)], keep_past=True)[0]
    return replace(after, blocks=first.memories, digests=digests, past=first.past)


if __name__ == "__main__":
    main()
