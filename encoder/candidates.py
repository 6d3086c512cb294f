"""The items that a few batches are scored against: all of a small catalogue, a draw from a large.

    what the batches contain: each event's item, so by its share of all events
    + items drawn at random, all alike, until there are as many as wanted

A softmax over a draw stands for that over the catalogue when each score is lowered by the log of
the item's chance to be in it (logQ correction: Bengio and Senecal 2008; Yi et al., RecSys 2019, for
items that come with a batch). Without it, popular items count as wrong answers too often.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from encoder.histories import Ints
from encoder.samples import NO_ITEM, Batch


@dataclass(frozen=True, slots=True)
class Candidates:
    rows: Tensor  # (C,) rows of the catalogue, ascending
    log_chance: Tensor  # (C,) log of the chance to be drawn, 0 for one that always is

    @classmethod
    def all(cls, n_items: int) -> "Candidates":
        return cls(torch.arange(n_items), torch.zeros(n_items))

    def to(self, device: torch.device) -> "Candidates":
        return Candidates(self.rows.to(device), self.log_chance.to(device))

    def __len__(self) -> int:
        return len(self.rows)

    def places(self, rows: Tensor) -> Tensor:
        """Return where items stand among the candidates; NO_ITEM stays what it is."""
        return torch.where(rows == NO_ITEM, NO_ITEM, torch.searchsorted(self.rows, rows))

    def placed(self, batch: Batch) -> Batch:
        """Return a batch whose items are places among the candidates."""
        return replace(
            batch,
            next_rows=self.places(batch.next_rows),
            window_rows=self.places(batch.window_rows),
            targets=self.places(batch.targets),
        )


def draw(
    batches: Sequence[Batch], item_counts: Ints, n_wanted: int, rng: np.random.Generator
) -> Candidates:
    """Draw for batches, whose items are all among them.

    Args:
        item_counts: (N,) events of each item.
        n_wanted: candidates; all N when there are no more, more when the batches hold more.
    """
    n_items = len(item_counts)
    if n_items <= n_wanted:
        return Candidates.all(n_items)
    present = torch.cat([batch.items() for batch in batches]).unique().numpy()
    others = np.setdiff1d(np.arange(n_items), present, assume_unique=True)
    n_drawn = max(0, n_wanted - len(present))
    drawn = rng.choice(others, n_drawn, replace=False, shuffle=False)
    rows = np.sort(np.concatenate([present, drawn]))
    n_events = sum(batch.n_events for batch in batches)
    share = item_counts[rows] / item_counts.sum()
    missed = (1 - share) ** n_events * (1 - n_drawn / max(1, len(others)))
    return Candidates(torch.from_numpy(rows), torch.from_numpy(np.log1p(-missed)).float())
