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
from encoder.engine import Engine, UserInput
from protos.segments import Columns

LEAST_S, LEAST_TIMES = 1.0, 5


def main() -> None:
    torch.set_num_threads(1)
    bundle = load_bundle(Path(sys.argv[1]))
    engine = Engine(bundle)
    print(json.dumps({n: forward_ms(engine, n) for n in map(int, sys.argv[2:])}))


def forward_ms(engine: Engine, n_events: int) -> float:
    """Return the median of some passes."""
    user = whole_history(engine, n_events)
    engine.refresh([user])
    times: list[float] = []
    while len(times) < LEAST_TIMES or sum(times) < LEAST_S:
        start = time.perf_counter()
        engine.refresh([user])
        times.append(time.perf_counter() - start)
    return round(1000 * float(np.median(times)), 3)


def whole_history(engine: Engine, n_events: int) -> UserInput:
    """Return a user of random events of whom nothing is known."""
    bundle, config = engine.bundle, engine.config
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(bundle.catalogue.item_ids), n_events)
    size = config.segment_size
    segments = [_segment(bundle, rows[at : at + size]) for at in range(0, n_events + 1, size)]
    recent = rows[config.window_start(n_events) :]
    texts = [bundle.catalogue.texts[row] for row in recent]
    window = engine.encode_items(texts, recent.tolist()).states
    return UserInput(segments[:-1], segments[-1], window, refine=True)


def _segment(bundle: Bundle, rows: np.ndarray) -> Columns:
    n = len(rows)
    return Columns(
        hashes=rows.astype(np.uint32),
        actions=np.full(n, 3, np.uint8),
        gaps=np.zeros(n, np.uint16),
        codes=bundle.catalogue.codes[rows],
        coded=np.ones(n, bool),
        codebook_version=0,
    )


if __name__ == "__main__":
    main()
