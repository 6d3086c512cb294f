"""Users a second of the bare model step: `python -m encoder.bench.step BUNDLE BATCH
[FOLDER]` prints the bytes that are kept of a user, and then users a second for each line that it
reads, measured anew; with the folder of compiled passes, compiled.

Prebuilt batches of users with 2,048 events and some, who go on event by event until each one's
window was cut back once: what a worker could do at most, if answering, checking and queueing cost
nothing.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from encoder.bench.forward import whole_history
from encoder.bundle import Bundle, load_bundle
from encoder.engine import Engine
from encoder.evaluate import Served
from encoder.plan import UserInput
from encoder.user_slots import UserSlots
from infra.malloc import keep_freed_memory

OPEN = 8
N_EVENTS = 2_048 + OPEN
SLOT_BYTES = 256 << 20
LEAST_S = 2.0


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    bundle, n_users = load_bundle(Path(sys.argv[1])), int(sys.argv[2])
    slots = UserSlots(bundle.model, torch.device("cpu"), n_bytes=SLOT_BYTES)
    folder = Path(sys.argv[3]) if sys.argv[3:] else None
    engine = Engine(bundle, users=slots, compiled_folder=folder)
    served = Served(bundle)
    states = [user_states(engine, served, bundle, place) for place in range(n_users)]
    first, *turns = zip(*states, strict=True)
    for users in turns:  # whatever is done once is done now
        engine.refresh(users)
    print(slots.slot_bytes + bundle.config.n_blocks * bundle.config.block_bytes, flush=True)
    for _ in sys.stdin:
        print(users_per_s(engine, first, turns), flush=True)


def users_per_s(
    engine: Engine, first: Sequence[UserInput], turns: Sequence[Sequence[UserInput]]
) -> float:
    """Measure for LEAST_S seconds, or somewhat more."""
    seconds, n_done = 0.0, 0
    while seconds < LEAST_S:
        engine.refresh(first)  # back to where they were, uncounted
        start = time.perf_counter()
        for users in turns:
            engine.refresh(users)
        seconds += time.perf_counter() - start
        n_done += len(turns) * len(first)
    return n_done / seconds


def user_states(engine: Engine, served: Served, bundle: Bundle, place: int) -> Sequence[UserInput]:
    """Return one of many users event by event; no segment closes meanwhile."""
    n_more = bundle.config.recent_size // 2
    first = N_EVENTS + place % (bundle.config.segment_size - OPEN - n_more)
    before, *after = (
        whole_history(served, bundle, first + n, seed=place) for n in range(n_more + 1)
    )
    digests = [f"{place:8}{n:8}".encode() for n in range(len(before.blocks))]
    (known,) = engine.refresh([before])
    name = ("default", str(place))
    return [
        replace(user, name=name, blocks=known.memories, digests=digests)
        for user in (before, *after)
    ]


if __name__ == "__main__":
    main()
