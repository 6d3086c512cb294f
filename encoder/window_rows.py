"""Windows of recent items of some users, as the tensors that the LLM's pass reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.items import ItemState
from encoder.llm import PastItems
from encoder.past import NO_PADDING, NOBODY, Padding
from encoder.segment_rows import past_of


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
    before: PastItems | None


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
        padding: rows beyond those that there are have no items.
    """
    device, n_kept = pool.device, item_shape[0]
    n_rows = max(len(rows), padding.n_rows)
    counts, n_past, slots = np.zeros((3, n_rows), np.int64)
    for place, row in enumerate(rows):
        counts[place], n_past[place], slots[place] = len(row.items), row.n_past, row.slot
    new = [row.items[row.n_past :] for row in rows]
    is_kept = _is_kept(new, n_rows, padding.n_new, n_kept)
    kept = pool.new_zeros((*is_kept.shape[:2], *item_shape))
    if states := [item.kept for items in new for item in items]:
        places = [(row, place) for row, items in enumerate(new) for place in range(len(items))]
        kept[tuple(torch.tensor(places, device=device).T)] = torch.stack(states)
    past = past_of(pool, slots, n_past, n_kept, padding)
    before = None
    if past is not None:
        old = [row.items[: row.n_past] for row in rows]
        were_kept = _is_kept(old, n_rows, past.n_tokens // n_kept, n_kept)
        before = PastItems(past, torch.from_numpy(were_kept).to(device))
    return Windows(
        kept,
        torch.from_numpy(is_kept).to(device),
        torch.from_numpy(counts[:, None]).to(device),
        before,
    )


def _is_kept(
    rows: Sequence[Sequence[ItemState]], n_rows: int, n_items: int, n_kept: int
) -> np.ndarray:
    """Return which tokens there are, (n_rows, n_items or more, t) bool."""
    longest = max(n_items, *map(len, rows))
    n_tokens = np.zeros((n_rows, longest, 1), np.int64)
    for place, items in enumerate(rows):
        n_tokens[place, : len(items), 0] = [item.n_tokens for item in items]
    found: np.ndarray = np.arange(n_kept) >= n_kept - n_tokens
    return found
