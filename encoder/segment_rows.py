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
from encoder.past import NO_PADDING, NOBODY, Padding, Past
from encoder.upload import upload
from protos.segments import Columns

Places = npt.NDArray[np.int64]

Memory = npt.NDArray[np.float16]
"""(layers, 2, M, width): a memory block."""


@dataclass(frozen=True, slots=True)
class Row:
    """A segment to compute, but for its first events."""

    segment: Columns
    prior: Sequence[int]
    """Places in the bank of the blocks that it reads, newest first."""
    slot: int = NOBODY
    n_past: int = 0
    """Its first events, which the slot has."""

    @property
    def n_new(self) -> int:
        return len(self.segment.actions) - self.n_past


def as_tensors(
    rows: Sequence[Row], pool: Tensor, *, n_samples: int, padding: Padding = NO_PADDING
) -> tuple[Rows, Past]:
    """Return rows on the CPU, and what was computed before.

    Args:
        pool: (slots, layers, 2, H, S + 1, head width)
        n_samples: 1 to read interests at the end of each segment, 0 for its memory alone.
    """
    n_rows = len(rows)
    longest = max(padding.n_new, *(row.n_new for row in rows))
    n_prior = max(padding.n_blocks, *(len(row.prior) for row in rows))
    n_levels = rows[0].segment.codes.shape[1]
    codes = np.zeros((n_rows, longest, n_levels), np.uint8)
    is_coded = np.zeros((n_rows, longest), bool)
    actions = np.zeros((n_rows, longest), np.uint8)
    gaps = np.zeros((n_rows, longest), np.int64)
    prior = np.full((n_rows, n_prior), NO_BLOCK, np.int64)
    lengths, n_past, slots = np.zeros((3, n_rows), np.int64)
    for place, row in enumerate(rows):
        n, first, segment = row.n_new, row.n_past, row.segment
        codes[place, :n], is_coded[place, :n] = segment.codes[first:], segment.coded[first:]
        actions[place, :n], gaps[place, :n] = segment.actions[first:], segment.gaps[first:]
        prior[place, : len(row.prior)] = row.prior
        lengths[place], n_past[place], slots[place] = n, first, row.slot
    found = Rows(
        codes=torch.from_numpy(codes),
        is_coded=torch.from_numpy(is_coded),
        actions=torch.from_numpy(actions),
        gaps=torch.from_numpy(gaps),
        lengths=torch.from_numpy(lengths),
        prior=torch.from_numpy(prior),
        counts=torch.from_numpy(np.repeat((lengths + n_past)[:, None], n_samples, axis=1)),
    )
    return found, past_of(pool, slots, n_past, 1, padding)


def past_of(pool: Tensor, slots: Places, n_past: Places, n_tokens: int, padding: Padding) -> Past:
    """Return the past of rows.

    Args:
        slots: (R,)
        n_past: (R,) events or items.
        n_tokens: of each.
    """
    n_read = pool.shape[4] if padding.has_past else int(n_past.max()) * n_tokens
    slots_of, lengths = (upload(torch.from_numpy(one), pool.device) for one in (slots, n_past))
    return Past(pool, slots_of, lengths, n_read)


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
