"""What users' refreshes leave to their next ones: keys and values, each user's in a slot.

    segments   (slots, layers, 2, H, S + 1, head width)        of the open segment's events
    windows    (slots, layers, 2, H, (R + 1) * t, head width)  of the window's tokens

However many users a batch has, one operation reads what they left and one writes what is new. The
last place of a slot takes what is only padding; slot 0 belongs to nobody: rows of which nothing is
kept write there, and nothing of it counts.

Nothing is trusted by name: beside its slot stands what its contents were computed from, and they
are good as far as the next state begins with the same. A slot may be lost at any time.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from prometheus_client import Counter, Gauge
from torch import Tensor

from encoder.items import ItemState
from encoder.model import Recommender
from encoder.past import NOBODY
from protos.segments import Columns

LOOKUPS = Counter(
    "freshet_encoder_user_lookups_total", "Users of whom something might be kept.", ["found"]
)
HELD = Gauge("freshet_encoder_user_slots", "Slots of users: in use, or all.", ["which"])

UserName = tuple[str, str]
"""(tenant, user_id)"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A slot, and what its contents were computed from."""

    slot: int = NOBODY
    digests: Sequence[bytes] = ()
    """Of the blocks that the open segment reads, oldest first."""
    segment: Columns | None = None
    items: Sequence[ItemState] = ()

    def n_events(self, digests: Sequence[bytes], segment: Columns) -> int:
        """Count the first events of a segment after these blocks that need not be computed: those
        that are the same, but never the newest, from which queries start."""
        if self.segment is None or list(self.digests) != list(digests):
            return 0
        n = min(len(self.segment.actions), len(segment.actions) - 1)
        for name in ("codes", "coded", "actions", "gaps"):
            n = _n_equal(getattr(self.segment, name), getattr(segment, name), n)
        return max(0, n)

    def n_items(self, items: Sequence[ItemState]) -> int:
        """Count the first items that need not be computed; never the newest."""
        n = max(0, min(len(self.items), len(items) - 1))
        pairs = zip(self.items[:n], items, strict=False)
        return next((place for place, (one, other) in enumerate(pairs) if one is not other), n)


def _n_equal(ours: np.ndarray, theirs: np.ndarray, n: int) -> int:
    """Count the first rows that are the same, at most n."""
    if n <= 0:
        return 0
    if ours[:n].tobytes() == theirs[:n].tobytes():
        return n
    differs = (ours[:n] != theirs[:n]).reshape(n, -1).any(axis=1)
    return int(differs.argmax())


class UserSlots:
    """As many slots as fit into some bytes; whoever was refreshed longest ago loses his first.

    For the one thread that computes.
    """

    def __init__(
        self, model: Recommender, device: torch.device, *, n_bytes: int = 0, idle_s: float = 3600.0
    ) -> None:
        """
        Args:
            n_bytes: of all slots.
            idle_s: nobody keeps a slot for longer without an event: an erased user neither.
        """
        config = model.config
        n_tokens = (config.recent_size + 1) * config.n_kept
        segment = model.light.past_shape(config.segment_size + 1)
        window = model.tower.llm.past_shape(n_tokens)
        self.slot_bytes = 4 * int(np.prod(segment) + np.prod(window))
        n_slots = n_bytes // self.slot_bytes
        n_rows = n_slots + 1
        self.segments = _zeros((n_rows, *segment), device)
        self.windows = _zeros((n_rows, *window), device)
        self._free = list(range(n_slots, NOBODY, -1))
        self._idle_s = idle_s
        self._kept: dict[UserName, tuple[Kept, float]] = {}
        """With the time until which they are kept; least recent first, as all are put back last."""
        self._due: dict[UserName, int] = {}
        HELD.labels("all").set(n_slots)
        HELD.labels("in use").set_function(lambda: n_slots - len(self._free))

    def take(self, names: Sequence[UserName | None]) -> list[Kept]:
        """Lend the slots of a batch of users until `keep` or `drop`; of those who had none, and of
        nobody else, they hold nothing. The second of the same name gets nobody's."""
        self._expire()
        found = {name: self._taken(name) for name in names if name}
        n_found = sum(one is not None for one in found.values())
        LOOKUPS.labels("true").inc(n_found)
        LOOKUPS.labels("false").inc(len(found) - n_found)
        held = []
        for name in names:
            if name in found:
                held.append(found.pop(name) or Kept(self._new_slot()))
            else:
                held.append(Kept())
        return held

    def _expire(self) -> None:
        while (name := next(iter(self._kept), None)) and self._kept[name][1] <= time.monotonic():
            self._free.append(self._pop(name).slot)

    def _taken(self, name: UserName) -> Kept | None:
        return self._pop(name) if name in self._kept else None

    def _pop(self, name: UserName) -> Kept:
        self._due.pop(name, None)
        return self._kept.pop(name)[0]

    def _new_slot(self) -> int:
        if self._free:
            return self._free.pop()
        return self._pop(next(iter(self._kept))).slot if self._kept else NOBODY

    @property
    def is_due(self) -> bool:
        return bool(self._due)

    def take_due(self, most: int) -> list[tuple[UserName, Kept, int]]:
        """Lend the slots of some users whose windows can be cut back ahead, with the items that
        fall out."""
        some = list(itertools.islice(self._due.items(), most))
        return [(name, self._pop(name), n_out) for name, n_out in some]

    def keep(self, name: UserName, kept: Kept, n_out: int = 0) -> None:
        """Give a slot back with its new contents.

        Args:
            n_out: how many items fall out of the window with the next event.
        """
        if kept.slot != NOBODY:
            self._kept[name] = (kept, time.monotonic() + self._idle_s)
            if n_out:
                self._due[name] = n_out

    def drop(self, held: Sequence[Kept]) -> None:
        """Give slots back with contents that nobody knows, cleared: what is not visible counts for
        nothing, unless it is not a number."""
        for one in held:
            self.segments[one.slot].zero_()
            self.windows[one.slot].zero_()
            if one.slot != NOBODY:
                self._free.append(one.slot)


def _zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return zeros whose memory the system gives when it is first written, where it can."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, np.float32))
    return torch.zeros(shape, device=device)
