"""What a batch of users has computed, laid out before anything is: which segments have no memory
block yet, and where in the bank of all blocks lie those that each row reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from encoder.items import ItemState
from encoder.segment_rows import Memory, Row
from encoder.upload import upload
from encoder.user_slots import Kept, UserName
from protos.segments import Columns


@dataclass(frozen=True, slots=True)
class UserInput:
    """A checked state of one user."""

    blocks: Sequence[Memory | Columns]
    """The newest closed segments, oldest first: memory, or the segment to make it from."""
    open_segment: Columns
    window: Sequence[ItemState]
    """The window of recent items, oldest first; not read when `refine` is False."""
    refine: bool
    digests: Sequence[bytes] = ()
    """Of the blocks, where the user has a name."""
    name: UserName | None = None
    """Under which something may be kept for the next call."""
    n_out: int = 0
    """How many items fall out of the window with the next event."""

    @property
    def n_tokens(self) -> int:
        """How many events and items there are at most to compute."""
        segments = [block for block in self.blocks if isinstance(block, Columns)]
        events = len(self.open_segment.actions) + sum(len(s.actions) for s in segments)
        return max(1, events) + (len(self.window) if self.refine else 0)

    def digests_before(self, place: int, n_blocks: int) -> Sequence[bytes]:
        """Return the digests of the blocks that the segment at a place reads, oldest first."""
        return self.digests[max(0, place - n_blocks) : place]


class Plan:
    """Rows of all users, and where the blocks that they read lie in the bank."""

    def __init__(
        self,
        users: Sequence[UserInput],
        held: Sequence[Kept],
        n_blocks: int,
        fillers: Sequence[Memory],
    ) -> None:
        """
        Args:
            fillers: blocks that stand first in the bank and that nobody reads.
        """
        self.stored: list[Memory] = list(fillers)
        self.closed_rows: list[Row] = []
        self.closed_of: list[range] = []
        """Each user's among them."""
        self.open_rows: list[Row] = []
        made = [[isinstance(block, Columns) for block in user.blocks] for user in users]
        n_stored = len(fillers) + sum([len(some) - sum(some) for some in made])
        for user, kept, is_made in zip(users, held, made, strict=True):
            first = len(self.closed_rows)
            if any(is_made):
                places = self._place_blocks(user, kept, n_stored, n_blocks)
            else:
                places = list(range(len(self.stored), len(self.stored) + len(user.blocks)))
                self.stored.extend(cast(Sequence[Memory], user.blocks))
            self.closed_of.append(range(first, len(self.closed_rows)))
            prior = places[: -1 - n_blocks : -1]
            n_past = kept.n_events(user.digests_before(len(places), n_blocks), user.open_segment)
            self.open_rows.append(Row(user.open_segment, prior, kept.slot, n_past))

    def _place_blocks(self, user: UserInput, kept: Kept, n_stored: int, n_blocks: int) -> list[int]:
        """Return the places in the bank of a user's blocks, those that have to be made behind the
        stored ones."""
        places: list[int] = []
        for index, block in enumerate(user.blocks):
            if isinstance(block, Columns):
                prior = places[: -1 - n_blocks : -1]
                n_past = kept.n_events(user.digests_before(index, n_blocks), block)
                places.append(n_stored + len(self.closed_rows))
                self.closed_rows.append(Row(block, prior, kept.slot, n_past))
            else:
                places.append(len(self.stored))
                self.stored.append(block)
        return places

    def bank(self, device: torch.device) -> Tensor | None:
        """Return the stored blocks on a device; None where there are none."""
        if not self.stored:
            return None
        # Arrays are buffers; np.concatenate takes three times as long.
        joined = bytearray().join(cast(list[bytes], self.stored))
        shape = (len(self.stored), *self.stored[0].shape)
        stored: Memory = np.ndarray(shape, np.float16, joined)
        return upload(torch.from_numpy(stored), device)
