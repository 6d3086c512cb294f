"""From checked states of users to interest vectors: where wire values become tensors, and back.

One call computes a batch of users of any lengths: closed segments that have no memory block yet,
open segments, then the LLM over the recent items. What comes out is a function of the model and the
arguments; what an earlier call left in the users' slots changes what is computed. Caches of items
and blocks live above it (encoder/worker.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from encoder.bundle import Bundle
from encoder.codebook import Codes, Floats
from encoder.config import ModelConfig
from encoder.items import NO_VECTOR, ItemState, ItemStates, ItemTower
from encoder.passes import Compiling, Found, Route, light_routes, llm_routes
from encoder.segment_rows import Memory, Row, as_tensors, no_block
from encoder.texts import item_tokens
from encoder.user_slots import Kept, UserName, UserSlots
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


@dataclass(frozen=True, slots=True)
class UserOutput:
    vectors: Floats  # (K, D), unit length
    weights: Floats  # (K,), sum to 1
    memories: Sequence[Memory]
    """Of the blocks that came as segments, in their order."""
    is_finite: bool


@dataclass(frozen=True, slots=True)
class EncodedItems:
    states: Sequence[ItemState]
    embeddings: Floats  # (N, D)
    codes: Codes  # (N, Q)


class Engine:
    """The model on its device. Not thread-safe: one thread computes."""

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cpu",
        *,
        users: UserSlots | None = None,
        compiled_folder: Path | None = None,
    ) -> None:
        """
        Args:
            bundle: its model is on the device.
            users: on the same device; None keeps nothing of anybody.
            compiled_folder: where compiled passes are kept; None compiles nothing.
        """
        self.bundle = bundle
        self.config = bundle.config
        self.device = torch.device(device)
        model = bundle.model
        self._users = users or UserSlots(model, self.device)
        where = None
        if compiled_folder is not None:
            where = Compiling(compiled_folder, bundle.model_version)
        self._light = light_routes(model, where)
        self._llm = llm_routes(model, where)
        # A bank of no block would be another graph.
        self._fillers = [no_block(self.config)] if where else []
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
    def refresh(self, users: Sequence[UserInput]) -> list[UserOutput]:
        """Compute interests of a batch of users; every user has at least one event.

        Numbers that are not finite come out where blocks hold too great ones, and are not kept.
        """
        held = self._users.take([user.name for user in users])
        try:
            outputs = self._refresh(users, held)
        except BaseException:
            self._users.drop(held)
            raise
        for user, kept, output in zip(users, held, outputs, strict=True):
            if not output.is_finite:
                self._users.drop([kept])
            elif user.name is not None:
                digests = user.digests_before(len(user.blocks), self.config.n_blocks)
                items = user.window if user.refine else kept.items
                new = Kept(kept.slot, digests, user.open_segment, items)
                self._users.keep(user.name, new, user.n_out if user.refine else 0)
        return outputs

    @property
    def is_due(self) -> bool:
        """Whether there is something to prepare; for any thread."""
        return self._users.is_due

    @torch.inference_mode()
    def prepare(self, most: int = 8) -> None:
        """Compute, for some users, the window that their next event cuts back to, but for its
        item."""
        due = self._users.take_due(most)
        try:
            rows = [WindowRow(kept.items[n_out:], kept.slot) for _, kept, n_out in due]
            for group, route in self._llm.groups([row.n_new for row in rows]):
                # Whatever stands behind the items, they do not see it.
                some = [rows[place] for place in group]
                coarse = torch.zeros(len(group), self.config.n_interests, self.config.dim)
                self._window_pass(route, some, coarse.to(self.device))
        except BaseException:
            self._users.drop([kept for _, kept, _ in due])
            raise
        for name, kept, n_out in due:
            self._users.keep(name, replace(kept, items=kept.items[n_out:]))

    def _refresh(self, users: Sequence[UserInput], held: Sequence[Kept]) -> list[UserOutput]:
        plan = _Plan(users, held, self.config.n_blocks, self._fillers)
        bank, memories = self._closed(plan)
        results = _Results(len(users), self.config, self.device)
        self._open(plan.open_rows, bank, results)
        self._refine(users, held, results)
        vectors = results.interests.cpu().numpy()
        weights = results.weight_logits.softmax(dim=-1).cpu().numpy()
        is_finite = np.isfinite(vectors).all(axis=(1, 2)) & np.isfinite(weights).all(axis=1)
        return [
            UserOutput(
                vectors[place],
                weights[place],
                [memories[row] for row in rows],
                bool(is_finite[place]),
            )
            for place, rows in enumerate(plan.closed_of)
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
        rows, past = as_tensors(plan.closed_rows, self._users.segments, n_samples=0)
        read = past if past.n_tokens else None
        made = self.bundle.model.light(rows.to(self.device), bank, read).memory
        return made if bank is None else torch.cat([bank, made]), made.cpu().numpy()

    def _open(self, rows: Sequence[Row], bank: Tensor | None, results: "_Results") -> None:
        pool = self._users.segments
        for places, route in self._light.groups([row.n_new for row in rows]):
            some = [rows[place] for place in places]
            tensors, past = as_tensors(some, pool, n_samples=1, padding=route.padding)
            results.put(places, route.compute(tensors.to(self.device), bank, past))

    def _refine(
        self, users: Sequence[UserInput], held: Sequence[Kept], results: "_Results"
    ) -> None:
        refined = [place for place, user in enumerate(users) if user.refine]
        rows = [
            WindowRow(users[n].window, held[n].slot, held[n].n_items(users[n].window))
            for n in refined
        ]
        for group, route in self._llm.groups([row.n_new for row in rows]):
            some, places = [rows[n] for n in group], [refined[n] for n in group]
            results.put(places, self._window_pass(route, some, results.coarse(places)))

    def _window_pass(self, route: Route, rows: Sequence[WindowRow], coarse: Tensor) -> Found:
        """Refine the coarse interests (R, K, D) of windows, and keep what is new of them."""
        windows = as_windows(rows, self._users.windows, self._item_shape, route.padding)
        return route.compute(
            windows.kept,
            windows.is_kept,
            coarse.unsqueeze(1),
            windows.counts,
            windows.before,
        )


class _Results:
    """What comes of a batch of users."""

    def __init__(self, n_users: int, config: ModelConfig, device: torch.device) -> None:
        self.interests = torch.zeros((n_users, config.n_interests, config.dim), device=device)
        self.weight_logits = torch.zeros((n_users, config.n_interests), device=device)

    def put(self, places: Sequence[int], found: Found) -> None:
        """Take what a pass found for some users."""
        chosen = self._chosen(places)
        self.interests[chosen] = found.interests.float()
        self.weight_logits[chosen] = found.weight_logits.float()

    def coarse(self, places: Sequence[int]) -> Tensor:
        """Return the interests so far of some users."""
        return self.interests[self._chosen(places)]

    def _chosen(self, places: Sequence[int]) -> Tensor | slice:
        if len(places) == len(self.interests):  # all of them, ascending
            return slice(None)
        return torch.tensor(places, device=self.interests.device)


class _Plan:
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
