"""From checked states of users to interest vectors: where wire values become tensors, and back.

One call computes a batch of users of any lengths: closed segments that have no memory block yet,
open segments, then the LLM over the recent items. It is a pure function of the model and its
arguments: what a user's refresh leaves to the next (`UserPast`) goes out and comes in again, and
changes what is computed, not what comes out. Caches live above it (encoder/worker.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from encoder.bundle import Bundle
from encoder.codebook import Codes, Floats
from encoder.config import ModelConfig
from encoder.items import NO_VECTOR, ItemState, ItemStates, ItemTower
from encoder.passes import Compiling, Found, light_routes, llm_routes
from encoder.segment_rows import Memory, Row, as_tensors, no_block
from encoder.texts import item_tokens
from encoder.user_past import SegmentPast, UserPast, WindowPast
from encoder.window_rows import WindowRow, as_windows
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
    """Of the blocks; without them no past is good."""
    past: UserPast | None = None

    @property
    def n_tokens(self) -> int:
        """About how much work it is: events and items to compute, those of a past left out."""
        segments = [block for block in self.blocks if isinstance(block, Columns)]
        events = len(self.open_segment.actions) + sum(len(s.actions) for s in segments)
        items = len(self.window) if self.refine else 0
        if self.past is not None:
            events -= len(self.past.segment.segment.actions)
            items -= 0 if self.past.window is None else len(self.past.window.items)
        return max(1, events) + max(0, items)

    def digests_before(self, place: int, n_blocks: int) -> Sequence[bytes]:
        """Return the digests of the blocks that the segment at a place reads, oldest first."""
        return self.digests[max(0, place - n_blocks) : place]

    def past_of(self, place: int, segment: Columns, n_blocks: int) -> Tensor | None:
        """Return what was computed before of the segment at a place, or None."""
        if self.past is None or len(self.digests) != len(self.blocks):
            return None
        return self.past.segment.shared(self.digests_before(place, n_blocks), segment)

    def window_row(self, n_kept: int) -> WindowRow:
        """Return what of the window is to be computed."""
        past = None if self.past is None else self.past.window
        n_past = 0 if past is None else past.n_shared(self.window)
        if past is None or not n_past:
            return WindowRow(self.window)
        return WindowRow(self.window, n_past, past.states[:, :, :, : n_past * n_kept])


@dataclass(frozen=True, slots=True)
class UserOutput:
    vectors: Floats  # (K, D), unit length
    weights: Floats  # (K,), sum to 1
    memories: Sequence[Memory]
    """Of the blocks that came as segments, in their order."""
    past: UserPast | None = None


@dataclass(frozen=True, slots=True)
class EncodedItems:
    states: Sequence[ItemState]
    embeddings: Floats  # (N, D)
    codes: Codes  # (N, Q)


class Engine:
    """The model on its device. Not thread-safe: one thread computes."""

    def __init__(
        self, bundle: Bundle, device: str = "cpu", compiled_folder: Path | None = None
    ) -> None:
        """
        Args:
            bundle: its model is on the device.
            compiled_folder: where compiled passes are kept; None compiles nothing.
        """
        self.bundle = bundle
        self.config = bundle.config
        self.device = torch.device(device)
        model = bundle.model
        where = None
        if compiled_folder is not None:
            where = Compiling(compiled_folder, bundle.model_version)
        self._light = light_routes(model, where)
        self._llm = llm_routes(model, where)
        # A bank of no or one block would be another graph.
        self._fillers = [no_block(self.config)] * 2 if where else []
        self._no_events = model.light.no_past(self.device)
        self._no_items = model.tower.llm.no_past(self.device)
        self._item_shape = (self.config.n_kept, model.tower.llm.width)

    def encode_items(self, texts: Sequence[str], item_rows: Sequence[int]) -> EncodedItems:
        """Encode items by text.

        Args:
            texts: one for each item; an empty one leaves [ITEM] alone.
            item_rows: rows of the learned vectors, NO_VECTOR for items that have none.
        """
        found = self.item_states(self.bundle.model.tower, texts, item_rows)
        coded = self.item_states(self.bundle.coder, texts, item_rows).embeddings
        n_tokens = found.is_kept.sum(dim=1).tolist()
        states = [ItemState(*pair) for pair in zip(found.kept, n_tokens, strict=True)]
        codes = self.bundle.codebook.encode(coded.cpu().numpy())
        return EncodedItems(states, found.embeddings.cpu().numpy(), codes)

    @torch.inference_mode()
    def item_states(
        self, tower: ItemTower, texts: Sequence[str], item_rows: Sequence[int]
    ) -> ItemStates:
        limit = self.config.max_item_tokens
        tokens, lengths = item_tokens(self.bundle.tokenizer, texts, limit)
        rows = torch.tensor(item_rows, dtype=torch.long, device=self.device)
        places = torch.from_numpy(lengths).to(self.device)
        return tower.encode(torch.from_numpy(tokens).to(self.device), places, rows)

    def unknown_item(self) -> ItemState:
        """Return the state of an item whose text nobody has: [ITEM] alone, no vector."""
        return self.encode_items([""], [NO_VECTOR]).states[0]

    @torch.inference_mode()
    def refresh(self, users: Sequence[UserInput], *, keep_past: bool = False) -> list[UserOutput]:
        """Compute interests of a batch of users; every user has at least one event.

        Args:
            users: what they bring as `past` need not be computed again.
            keep_past: whether outputs have pasts.
        """
        plan = _Plan(users, self.config.n_blocks, self._fillers)
        bank, memories = self._closed(plan)
        results = _Results(len(users), self.config, self.device)
        self._open(plan.open_rows, bank, results)
        self._refine(users, results)
        vectors = results.interests.cpu().numpy()
        weights = results.weight_logits.softmax(dim=-1).cpu().numpy()
        pasts = results.pasts(users, self.config.n_blocks) if keep_past else [None] * len(users)
        return [
            UserOutput(vectors[place], weights[place], [memories[row] for row in rows], past)
            for place, (rows, past) in enumerate(zip(plan.closed_of, pasts, strict=True))
        ]

    def _closed(self, plan: "_Plan") -> tuple[Tensor | None, Sequence[Memory]]:
        """Return all blocks, and those of them that were made now."""
        bank = None
        if plan.stored:
            joined = np.concatenate(plan.stored)  # np.stack takes three times as long
            shape = (len(plan.stored), *plan.stored[0].shape)
            bank = torch.from_numpy(joined.reshape(shape)).to(self.device)
        if not plan.closed_rows:
            return bank, ()
        light = self.bundle.model.light
        rows, past = as_tensors(plan.closed_rows, self._no_events, n_samples=0)
        made = light(rows.to(self.device), bank, past).memory
        return made if bank is None else torch.cat([bank, made]), made.cpu().numpy()

    def _open(self, rows: Sequence[Row], bank: Tensor | None, results: "_Results") -> None:
        for places, route in self._light.groups([row.n_new for row in rows]):
            some = [rows[place] for place in places]
            tensors, past = as_tensors(some, self._no_events, n_samples=1, padding=route.padding)
            found = route.compute(tensors.to(self.device), bank, past)
            results.put(places, found)
            for place, row, new in zip(places, some, found.states, strict=False):
                results.segments[place] = _extended(row.past, new, row.n_new)

    def _refine(self, users: Sequence[UserInput], results: "_Results") -> None:
        n_kept = self.config.n_kept
        refined = [place for place, user in enumerate(users) if user.refine]
        rows = [users[place].window_row(n_kept) for place in refined]
        for group, route in self._llm.groups([row.n_new for row in rows]):
            some, places = [rows[n] for n in group], [refined[n] for n in group]
            windows = as_windows(some, self._no_items, self._item_shape, route.padding)
            fillers = places[:1] * (len(windows.counts) - len(places))
            coarse = results.interests[places + fillers].unsqueeze(1)
            found = route.compute(
                windows.kept, windows.is_kept, coarse, windows.counts, windows.before
            )
            results.put(places, found)
            for place, row, new in zip(places, some, found.states, strict=False):
                results.windows[place] = _extended(row.past, new, row.n_new * n_kept)


class _Results:
    """What comes of a batch of users."""

    def __init__(self, n_users: int, config: ModelConfig, device: torch.device) -> None:
        self.interests = torch.zeros((n_users, config.n_interests, config.dim), device=device)
        self.weight_logits = torch.zeros((n_users, config.n_interests), device=device)
        self.segments: list[Tensor | None] = [None] * n_users
        """(layers, 2, H, n, head width): keys and values of the open segment's events."""
        self.windows: list[Tensor | None] = [None] * n_users
        """The same of the window's tokens, where it was computed."""

    def put(self, places: Sequence[int], found: Found) -> None:
        """Take what a pass found for some users; it may have more rows."""
        chosen = torch.tensor(places, device=self.interests.device)
        self.interests[chosen] = found.interests[: len(places)].float()
        self.weight_logits[chosen] = found.weight_logits[: len(places)].float()

    def pasts(self, users: Sequence[UserInput], n_blocks: int) -> Iterator[UserPast]:
        """Yield what these users' next refresh can go on from."""
        for user, segment, window in zip(users, self.segments, self.windows, strict=True):
            assert segment is not None  # every user has an open segment, empty or not
            digests = user.digests_before(len(user.blocks), n_blocks)
            items = None if user.past is None else user.past.window
            if window is not None:
                items = WindowPast(user.window, window)
            yield UserPast(SegmentPast(digests, user.open_segment, segment), items)


def _extended(before: Tensor | None, new: Tensor, n_new: int) -> Tensor:
    """Return (layers, 2, H, n, head width) with what is new behind it, in memory of its own."""
    own = new[:, :, :, :n_new]
    return own.clone() if before is None else torch.cat([before, own], dim=3)


class _Plan:
    """Rows of all users, and where the blocks that they read lie in the bank."""

    def __init__(
        self, users: Sequence[UserInput], n_blocks: int, fillers: Sequence[Memory]
    ) -> None:
        """
        Args:
            fillers: blocks that stand first in the bank and that nobody reads.
        """
        self.stored: list[Memory] = list(fillers)
        self.closed_rows: list[Row] = []
        self.closed_of: list[list[int]] = []
        """Each user's among them."""
        self.open_rows: list[Row] = []
        known = sum(not isinstance(b, Columns) for user in users for b in user.blocks)
        n_stored = len(fillers) + known
        for user in users:
            places: list[int] = []
            rows: list[int] = []
            for index, block in enumerate(user.blocks):
                if isinstance(block, Columns):
                    prior = places[: -1 - n_blocks : -1]
                    past = user.past_of(index, block, n_blocks)
                    places.append(n_stored + len(self.closed_rows))
                    rows.append(len(self.closed_rows))
                    self.closed_rows.append(Row(block, prior, past))
                else:
                    places.append(len(self.stored))
                    self.stored.append(block)
            self.closed_of.append(rows)
            past = user.past_of(len(places), user.open_segment, n_blocks)
            self.open_rows.append(Row(user.open_segment, places[: -1 - n_blocks : -1], past))
