"""`freshet bench seen`: what remembering seen items costs, and how often it hides one too many.

Hashes are 32 bits (retrieval/seen.py), so a candidate that was not seen is hidden with probability
h / 2^32 when h distinct hashes are remembered. Measured over a catalogue of a million items: users
with full histories (8,192 events) are asked about every item that they have not seen.
"""

import numpy as np
from rich.console import Console
from rich.progress import track

from infra.bench import Result
from protos.keys import short_item_hash
from protos.rec.v1.interests_pb2 import SeenSegment
from retrieval.seen import LastSeen, Policy, seen_mask

N_ITEMS, QUICK_ITEMS = 1_000_000, 200_000
N_USERS, QUICK_USERS = 200, 50
SEGMENT, N_SEGMENTS = 128, 64
N_CANDIDATES = 500
"""Of one request, about."""


def seen(quick: bool) -> Result:
    """Measure. There is no bar; the design asks for the figures."""
    n_items, n_users = (QUICK_ITEMS, QUICK_USERS) if quick else (N_ITEMS, N_USERS)
    rng = np.random.default_rng(0)
    console = Console(stderr=True)
    with console.status(f"hashing {n_items:,} items"):
        hashes = np.fromiter(
            (short_item_hash("default", f"item-{i}") for i in range(n_items)), np.uint32, n_items
        )
    n_hidden = n_asked = topic_bytes = memory_bytes = 0
    for _ in track(range(n_users), description="users", console=console):
        rows = rng.choice(n_items, SEGMENT * N_SEGMENTS, replace=False)
        segments = [
            SeenSegment(
                tenant="default",
                user_id="a user's id",
                segment_index=index,
                item_hashes=hashes[rows[index * SEGMENT :][:SEGMENT]].astype("<u4").tobytes(),
                last_event_time_ms=1_700_000_000_000,
                offset=1_000_000,
            )
            for index in range(N_SEGMENTS)
        ]
        closed = LastSeen.of_closed(segments)
        nothing = LastSeen.of_closed(())
        is_new = np.ones(n_items, np.bool_)
        is_new[rows] = False
        hidden = seen_mask(hashes[is_new], closed, nothing, Policy())
        n_hidden, n_asked = n_hidden + int(hidden.sum()), n_asked + int(is_new.sum())
        topic_bytes += sum(len(one.SerializeToString()) for one in segments)
        memory_bytes += closed.n_bytes
    n_events = n_users * SEGMENT * N_SEGMENTS
    rate = n_hidden / n_asked
    return Result(
        figures={
            "false_positive_rate": rate,
            "expected_rate": SEGMENT * N_SEGMENTS / 2**32,
            "requests_that_lose_an_item": round(1 - (1 - rate) ** N_CANDIDATES, 6),
            "candidates_a_request": N_CANDIDATES,
            "topic_bytes_per_event": round(topic_bytes / n_events, 2),
            "memory_bytes_per_event": round(memory_bytes / n_events, 2),
            "n_hidden": n_hidden,
            "n_asked": n_asked,
            "n_items": n_items,
            "n_users": n_users,
            "events_per_user": SEGMENT * N_SEGMENTS,
        }
    )
