"""Windows of recent items of some users, as the tensors that the LLM's pass reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.items import ItemState
from encoder.llm import PastItems
from encoder.past import NO_PADDING, Padding, Past, padded


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A window to compute, but for its first items."""

    items: Sequence[ItemState]
    """All of them, oldest first."""
    n_past: int = 0
    past: Tensor | None = None
    """(layers, 2, H, n * t, head width) of the first n items, or None."""

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
    nothing: Tensor,
    item_shape: tuple[int, int],
    padding: Padding = NO_PADDING,
) -> Windows:
    """Return rows as tensors on the device of `nothing`.

    Args:
        nothing: (layers, 2, H, 0, head width), a past of no items.
        item_shape: t tokens, F
        padding: rows beyond those that there are have no items.
    """
    device = nothing.device
    n_rows = max(len(rows), padding.n_rows)
    filler = [0] * (n_rows - len(rows))
    n_past = [row.n_past for row in rows] + filler
    counts = torch.tensor([len(row.items) for row in rows] + filler, device=device)
    new = [row.items[row.n_past :] for row in rows]
    is_kept = _is_kept(new, n_rows, padding.n_new, item_shape[0])
    kept = nothing.new_zeros((*is_kept.shape[:2], *item_shape))
    if states := [item.kept for items in new for item in items]:
        places = [(row, place) for row, items in enumerate(new) for place in range(len(items))]
        kept[tuple(torch.tensor(places, device=device).T)] = torch.stack(states)
    before = None
    if padding.n_past or any(n_past):
        joined = padded([row.past for row in rows], nothing, padding)
        old = [row.items[: row.n_past] for row in rows]
        were_kept = _is_kept(old, n_rows, joined.shape[4] // item_shape[0], item_shape[0])
        lengths = torch.tensor(n_past, device=device)
        before = PastItems(Past(joined, lengths), torch.from_numpy(were_kept).to(device))
    return Windows(kept, torch.from_numpy(is_kept).to(device), counts.unsqueeze(1), before)


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
