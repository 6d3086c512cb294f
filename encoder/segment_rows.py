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

from encoder.light import NO_BLOCK, Rows
from encoder.past import Past, padded
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


def as_tensors(rows: Sequence[Row], *, n_samples: int) -> tuple[Rows, Past | None]:
    """Return rows on the CPU, and what was computed before, where that is.

    Args:
        n_samples: 1 to read interests at the end of each segment, 0 for its memory alone.
    """
    lengths = np.array([row.n_new for row in rows])
    n_rows, longest = len(lengths), max(1, int(lengths.max()))
    n_prior = max(len(row.prior) for row in rows)
    n_levels = rows[0].segment.codes.shape[1]
    codes = np.zeros((n_rows, longest, n_levels), np.uint8)
    is_coded = np.zeros((n_rows, longest), bool)
    actions = np.zeros((n_rows, longest), np.uint8)
    gaps = np.zeros((n_rows, longest), np.int64)
    prior = np.full((n_rows, n_prior), NO_BLOCK, np.int64)
    for place, row in enumerate(rows):
        n, first, segment = lengths[place], row.n_past, row.segment
        codes[place, :n], is_coded[place, :n] = segment.codes[first:], segment.coded[first:]
        actions[place, :n], gaps[place, :n] = segment.actions[first:], segment.gaps[first:]
        prior[place, : len(row.prior)] = row.prior
    n_past = torch.tensor([row.n_past for row in rows])
    found = Rows(
        codes=torch.from_numpy(codes),
        is_coded=torch.from_numpy(is_coded),
        actions=torch.from_numpy(actions),
        gaps=torch.from_numpy(gaps),
        lengths=torch.from_numpy(lengths),
        prior=torch.from_numpy(prior),
        counts=(torch.from_numpy(lengths) + n_past)[:, None].expand(-1, n_samples),
    )
    some = next((row.past for row in rows if row.past is not None), None)
    if some is None:
        return found, None
    nothing = some[:, :, :, :0]
    states = padded([nothing if row.past is None else row.past for row in rows])
    return found, Past(states, n_past.to(states.device))


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
