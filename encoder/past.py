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
    n_blocks: int = 0
    has_past: bool = False
    """Whether they have a past, be it of no length."""


NO_PADDING = Padding()


NOBODY = 0
"""The slot that holds nothing."""


@dataclass(frozen=True, slots=True)
class Past:
    """Of R rows."""

    pool: Tensor  # (slots, layers, 2, H, n, head width): keys and values
    slots: Tensor  # (R,) int: each row's
    lengths: Tensor  # (R,) int: events, or items, that are good

    @property
    def n_tokens(self) -> int:
        return self.pool.shape[4]

    def of_layer(self, layer: int) -> KeysValues:
        keys, values = self.pool[:, layer][self.slots].unbind(dim=1)
        return keys, values


def stacked(layers: Sequence[KeysValues]) -> Tensor:
    """Return the keys and values of all layers, (R, layers, 2, H, n, head width)."""
    return torch.stack([torch.stack(pair, dim=1) for pair in layers], dim=1)


def joined(past: KeysValues | None, new: KeysValues) -> KeysValues:
    """Return what was computed before and now, one behind the other."""
    if past is None:
        return new
    return torch.cat([past[0], new[0]], dim=2), torch.cat([past[1], new[1]], dim=2)
