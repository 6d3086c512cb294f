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


def padded(states: Sequence[Tensor]) -> Tensor:
    """Return (layers, 2, H, n, head width) of each row as one tensor, (R, ...)."""
    longest = max(one.shape[3] for one in states)
    if len(states) == 1:
        return states[0].unsqueeze(0)
    found = states[0].new_zeros((len(states), *states[0].shape[:3], longest, states[0].shape[4]))
    for row, one in enumerate(states):
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
