"""What PyTorch takes for whole histories, without serving: `python -m encoder.bench.forward BUNDLE
N...` prints milliseconds by the number of events.

One pass of the same model over all segments and the window, nothing cached: what a refresh would
cost without blocks, keys and values.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from encoder.bundle import Bundle, load_bundle
from encoder.engine import Engine
from encoder.evaluate import Served
from encoder.histories import History
from encoder.plan import UserInput
from infra.malloc import keep_freed_memory

LEAST_S, LEAST_TIMES = 1.0, 5


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    bundle = load_bundle(Path(sys.argv[1]))
    engine, served = Engine(bundle), Served(bundle)
    lengths = map(int, sys.argv[2:])
    print(json.dumps({n: forward_ms(engine, whole_history(served, bundle, n)) for n in lengths}))


def forward_ms(engine: Engine, user: UserInput) -> float:
    """Return the median of some passes."""
    engine.refresh([user])
    times: list[float] = []
    while len(times) < LEAST_TIMES or sum(times) < LEAST_S:
        start = time.perf_counter()
        engine.refresh([user])
        times.append(time.perf_counter() - start)
    return round(1000 * float(np.median(times)), 3)


def whole_history(served: Served, bundle: Bundle, n_events: int, seed: int = 0) -> UserInput:
    """Return a user of random events of whom nothing is known; with fewer, the first of those."""
    rows = np.random.default_rng(seed).integers(0, len(bundle.catalogue.item_ids), n_events)
    actions, gaps = np.full(n_events, 3, np.uint8), np.zeros(n_events, np.uint16)
    history = History("u", rows, actions, gaps, np.arange(n_events))
    return served.user_input(history, refine=True)


if __name__ == "__main__":
    main()
