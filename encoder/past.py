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

    pool: Tensor  # (slots, layers, 2, H, room, head width): keys and values
    slots: Tensor  # (R,) int: each row's
    lengths: Tensor  # (R,) int: events, or items, that are good
    n_tokens: int
    """The first places of a slot, of which some may be good."""

    def of_layer(self, layer: int) -> KeysValues:
        """Return (R, H, n_tokens, head width) each."""
        keys, values = self.pool[:, layer, :, :, : self.n_tokens][self.slots].unbind(dim=1)
        return keys, values

    def write(self, layers: Sequence[KeysValues], n_tokens: int = 1) -> None:
        """Write what is new behind what is good. Beyond a slot, all goes to its last place.

        Args:
            layers: of each, (R, H, n, head width).
            n_tokens: of an event, or item.
        """
        states = torch.stack([torch.stack(pair, dim=1) for pair in layers], dim=1)
        behind = torch.arange(states.shape[4], device=states.device)
        places = ((self.lengths * n_tokens).unsqueeze(1) + behind).clamp_max(self.pool.shape[4] - 1)
        rows = states.permute(0, 4, 1, 2, 3, 5).to(self.pool.dtype)
        self.pool[self.slots.unsqueeze(1), :, :, :, places] = rows


def joined(past: KeysValues | None, new: KeysValues) -> KeysValues:
    """Return what was computed before and now, one behind the other."""
    if past is None:
        return new
    return torch.cat([past[0], new[0]], dim=2), torch.cat([past[1], new[1]], dim=2)
