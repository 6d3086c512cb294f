"""Windows of recent items of some users, as the tensors that the LLM's pass reads."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.items import ItemState
from encoder.llm import PastItems
from encoder.past import NO_PADDING, NOBODY, Padding
from encoder.segment_rows import past_of
from encoder.upload import upload


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A window to compute, but for its first items."""

    items: Sequence[ItemState]
    """All of them, oldest first."""
    slot: int = NOBODY
    n_past: int = 0
    """Its first items, which the slot has."""

    @property
    def n_new(self) -> int:
        return len(self.items) - self.n_past


@dataclass(frozen=True, slots=True)
class Windows:
    """R windows, padded on the right."""

    kept: Tensor  # (R, n, t, F) shallow states of items that are new
    is_kept: Tensor  # (R, n, t) bool
    counts: Tensor  # (R, 1): items, new or not
    before: PastItems


def as_windows(
    rows: Sequence[WindowRow],
    pool: Tensor,
    item_shape: tuple[int, int],
    padding: Padding = NO_PADDING,
) -> Windows:
    """Return rows as tensors on the device of `pool`.

    Args:
        pool: (slots, layers, 2, H, (R + 1) * t, head width)
        item_shape: t tokens, F
    """
    device, n_kept = pool.device, item_shape[0]
    n_rows = len(rows)
    counts, n_past, slots = np.zeros((3, n_rows), np.int64)
    for place, row in enumerate(rows):
        counts[place], n_past[place], slots[place] = len(row.items), row.n_past, row.slot
    new = [row.items[row.n_past :] for row in rows]
    is_kept = _is_kept(new, padding.n_new, n_kept)
    # One operation, whatever the rows: alone, each costs more than what it moves.
    nothing, n_items = [pool.new_zeros(item_shape)], is_kept.shape[1]
    states = [[item.kept for item in items] + nothing * (n_items - len(items)) for items in new]
    kept = torch.stack(list(itertools.chain.from_iterable(states)))
    past = past_of(pool, slots, n_past, n_kept, padding)
    old = [row.items[: row.n_past] for row in rows]
    were_kept = _is_kept(old, past.n_tokens // n_kept, n_kept)
    return Windows(
        kept.view(n_rows, n_items, *item_shape),
        upload(torch.from_numpy(is_kept), device),
        upload(torch.from_numpy(counts[:, None]), device),
        PastItems(past, upload(torch.from_numpy(were_kept), device)),
    )


def _is_kept(rows: Sequence[Sequence[ItemState]], n_items: int, n_kept: int) -> np.ndarray:
    """Return which tokens there are, (R, n_items or more, t) bool."""
    longest = max(n_items, *map(len, rows))
    n_tokens = np.zeros((len(rows), longest, 1), np.int64)
    for place, items in enumerate(rows):
        n_tokens[place, : len(items), 0] = [item.n_tokens for item in items]
    found: np.ndarray = np.arange(n_kept) >= n_kept - n_tokens
    return found
