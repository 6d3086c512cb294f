"""What was computed before of the same rows: keys and values that later tokens attend to.

Events of a segment and items of a window are causal, so the first of them leave the same keys and
values whatever follows. Who has them computes only what is new.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]
"""Each (R, H, n, head width); keys are turned by their places already."""


@dataclass(frozen=True, slots=True)
class Padding:
    """Sizes that rows have at least, so that they come in few shapes."""

    n_rows: int = 1
    n_new: int = 1
    """Events, or items."""
    n_past: int = 0
    """Events, or tokens of items."""
    n_blocks: int = 0


NO_PADDING = Padding()


@dataclass(frozen=True, slots=True)
class Past:
    """Of R rows, padded on the right to the longest."""

    states: Tensor  # (R, layers, 2, H, n, head width): keys and values
    lengths: Tensor  # (R,) int: events, or items

    @property
    def n_tokens(self) -> int:
        return self.states.shape[4]

    def of_layer(self, layer: int) -> KeysValues:
        keys, values = self.states[:, layer].unbind(dim=1)
        return keys, values


def padded(
    states: Sequence[Tensor | None], nothing: Tensor, padding: Padding = NO_PADDING
) -> Tensor:
    """Return the keys and values of each row as one tensor, (R, layers, 2, H, n, head width).

    Args:
        states: (layers, 2, H, its own n, head width) of each row, or None.
        nothing: the same with n = 0.
    """
    rows = [nothing if one is None else one for one in states]
    longest = max(padding.n_past, *(one.shape[3] for one in rows))
    n_rows = max(len(rows), padding.n_rows)
    if n_rows == 1:
        return rows[0].unsqueeze(0)
    found = nothing.new_zeros((n_rows, *nothing.shape[:3], longest, nothing.shape[4]))
    for row, one in enumerate(rows):
        found[row, ..., : one.shape[3], :] = one
    return found


def stacked(layers: Sequence[KeysValues]) -> Tensor:
    """Return the keys and values of all layers, (R, layers, 2, H, n, head width)."""
    return torch.stack([torch.stack(pair, dim=1) for pair in layers], dim=1)


def joined(past: KeysValues | None, new: KeysValues) -> KeysValues:
    """Return what was computed before and now, one behind the other."""
    if past is None:
        return new
    return torch.cat([past[0], new[0]], dim=2), torch.cat([past[1], new[1]], dim=2)
