"""A split for choosing: the newest event of some users, taken out of what is learned from.

It is not the test's: that one left the histories before. Which users is a function of the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.evaluate import Served, evaluate_scores
from encoder.histories import Beginnings, History, lengths_of
from encoder.progress import OnPart, named, unheard
from encoder.splits import Split, split_at
from encoder.trainer import Trainer

METRIC = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Held:
    """Histories to learn from, and what was taken out of them."""

    histories: Sequence[History]
    split: Split | None


def hold_out(histories: Sequence[History], n_users: int, seed: int) -> Held:
    """Take the last event of up to `n_users` users, of whom two events are left."""
    n_events = lengths_of(histories)
    able = np.flatnonzero(n_events > 2)
    chosen = np.sort(np.random.default_rng((seed, len(histories))).permutation(able)[:n_users])
    if not len(chosen):
        return Held(histories, None)
    n_events[chosen] -= 1
    left = Beginnings(histories, np.arange(len(histories)), n_events)
    return Held(left, split_at(histories, chosen, n_events[chosen]))


def validate(trainer: Trainer, split: Split, on_part: OnPart = unheard) -> dict[str, float]:
    """Return the metrics of the model as it is now, as it would be served."""
    items = trainer.encoded(named(on_part, "encode items"))
    served = Served(trainer.bundle(items), str(trainer.device), items=items)
    heard = named(on_part, "validate")
    return evaluate_scores(split, lambda some: served.scores(some, refine=True), heard)
