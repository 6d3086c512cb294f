"""Users a second of the bare model step: `python -m encoder.bench.step BUNDLE BATCH
[FOLDER]` prints it, and the bytes that are kept of a user; with the folder of compiled passes,
compiled.

Prebuilt batches of users with 2,048 events and some, each gone on from by one event: what a worker
could do at most, if answering, checking and queueing cost nothing.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from encoder.bench.forward import whole_history
from encoder.bundle import load_bundle
from encoder.engine import Engine, UserInput
from encoder.evaluate import Served
from encoder.user_slots import UserSlots
from infra.malloc import keep_freed_memory

N_EVENTS, N_OFFSETS = 2_048 + 8, 100
SLOT_BYTES = 256 << 20
LEAST_S = 3.0


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    bundle = load_bundle(Path(sys.argv[1]))
    slots = UserSlots(bundle.model, torch.device("cpu"), n_bytes=SLOT_BYTES)
    folder = Path(sys.argv[3]) if sys.argv[3:] else None
    engine, served = Engine(bundle, users=slots, compiled_folder=folder), Served(bundle)
    users = []
    for place in range(int(sys.argv[2])):
        n_events = N_EVENTS + place % N_OFFSETS
        before, after = (
            replace(whole_history(served, bundle, n), name=("default", str(place)))
            for n in (n_events, n_events + 1)
        )
        users.append(gone_on(engine, before, after))
    engine.refresh(users)
    start, n_done = time.perf_counter(), 0
    while time.perf_counter() < start + LEAST_S:
        engine.refresh(users)  # all but the newest event and item is kept: it is new every time
        n_done += len(users)
    blocks = bundle.config.n_blocks * bundle.config.block_bytes
    found = {
        "users_per_s": n_done / (time.perf_counter() - start),
        "user_bytes": slots.slot_bytes + blocks,
    }
    print(json.dumps(found))


def gone_on(engine: Engine, before: UserInput, after: UserInput) -> UserInput:
    """Return a user after one more event, with the blocks that the refresh before made."""
    digests = [place.to_bytes(16, "big") for place in range(len(before.blocks))]
    (first,) = engine.refresh([replace(before, digests=digests)])
    return replace(after, blocks=first.memories, digests=digests)


if __name__ == "__main__":
    main()
