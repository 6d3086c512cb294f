"""Which segments of some users are computed, and as which tensors.

bank:  stored blocks of all users | closed segments that have none yet, user by user
rows:  those closed segments, all in one pass (a later one reads an earlier one's memory);
       then open segments, alike ones together
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.config import ModelConfig
from encoder.light import NO_BLOCK, Rows
from encoder.past import NO_PADDING, Padding, Past, padded
from protos.segments import Columns

Memory = npt.NDArray[np.float16]
"""(layers, 2, M, width): a memory block."""


@dataclass(frozen=True, slots=True)
class Row:
    """A segment to compute, but for its first events."""

    segment: Columns
    prior: Sequence[int]
    """Places in the bank of the blocks that it reads, newest first."""
    past: Tensor | None = None
    """(layers, 2, H, n, head width) of its first n events, or None."""

    @property
    def n_past(self) -> int:
        return 0 if self.past is None else self.past.shape[3]

    @property
    def n_new(self) -> int:
        return len(self.segment.actions) - self.n_past


def as_tensors(
    rows: Sequence[Row], nothing: Tensor, *, n_samples: int, padding: Padding = NO_PADDING
) -> tuple[Rows, Past | None]:
    """Return rows on the CPU, and what was computed before, where that is or shall be padded.

    Args:
        nothing: (layers, 2, H, 0, head width), a past of no events.
        n_samples: 1 to read interests at the end of each segment, 0 for its memory alone.
        padding: rows beyond those that there are have no events.
    """
    n_rows = max(len(rows), padding.n_rows)
    longest = max(padding.n_new, *(row.n_new for row in rows))
    n_prior = max(padding.n_blocks, *(len(row.prior) for row in rows))
    n_levels = rows[0].segment.codes.shape[1]
    codes = np.zeros((n_rows, longest, n_levels), np.uint8)
    is_coded = np.zeros((n_rows, longest), bool)
    actions = np.zeros((n_rows, longest), np.uint8)
    gaps = np.zeros((n_rows, longest), np.int64)
    prior = np.full((n_rows, n_prior), NO_BLOCK, np.int64)
    lengths, n_past = np.zeros((2, n_rows), np.int64)
    for place, row in enumerate(rows):
        n, first, segment = row.n_new, row.n_past, row.segment
        codes[place, :n], is_coded[place, :n] = segment.codes[first:], segment.coded[first:]
        actions[place, :n], gaps[place, :n] = segment.actions[first:], segment.gaps[first:]
        prior[place, : len(row.prior)] = row.prior
        lengths[place], n_past[place] = n, first
    found = Rows(
        codes=torch.from_numpy(codes),
        is_coded=torch.from_numpy(is_coded),
        actions=torch.from_numpy(actions),
        gaps=torch.from_numpy(gaps),
        lengths=torch.from_numpy(lengths),
        prior=torch.from_numpy(prior),
        counts=torch.from_numpy(np.repeat((lengths + n_past)[:, None], n_samples, axis=1)),
    )
    if not padding.n_past and not n_past.any():
        return found, None
    states = padded([row.past for row in rows], nothing, padding)
    return found, Past(states, torch.from_numpy(n_past).to(states.device))


def no_block(config: ModelConfig) -> Memory:
    """Return a block of nothing, (layers, 2, M, width)."""
    shape = (config.light_layers, 2, config.n_memory, config.light_width)
    return np.zeros(shape, np.float16)


def alike(sizes: Sequence[int], slack: int = 4) -> Iterator[list[int]]:
    """Yield the places, ascending, of sizes that are at most twice the smallest of theirs, and
    `slack` more: padded to their longest, they waste little."""
    group: list[int] = []
    for place in sorted(range(len(sizes)), key=sizes.__getitem__):
        if group and sizes[place] > 2 * sizes[group[0]] + slack:
            yield sorted(group)
            group = []
        group.append(place)
    if group:
        yield sorted(group)
