"""From checked states of users to interest vectors: where wire values become tensors, and back.

One call computes a batch of users of any lengths: closed segments that have no memory block yet,
open segments, then the LLM over the recent items. It is a pure function of the model and its
arguments: what a user's refresh leaves to the next (`UserPast`) goes out and comes in again, and
changes what is computed, not what comes out. Caches live above it (encoder/worker.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.bundle import Bundle
from encoder.codebook import Codes, Floats
from encoder.items import NO_VECTOR, ItemState, ItemStates, ItemTower
from encoder.llm import PastItems
from encoder.past import Past, padded, stacked
from encoder.segment_rows import Memory, Row, alike, as_tensors
from encoder.texts import item_tokens
from encoder.user_past import SegmentPast, UserPast, WindowPast
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

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        self.bundle = bundle
        self.config = bundle.config
        self.device = torch.device(device)

    def encode_items(self, texts: Sequence[str], item_rows: Sequence[int]) -> EncodedItems:
        """Encode items by text.

        Args:
            texts: one for each item; an empty one leaves [ITEM] alone.
            item_rows: rows of the learned vectors, NO_VECTOR for items that have none.
        """
        found = self.item_states(self.bundle.model.tower, texts, item_rows)
        coded = self.item_states(self.bundle.coder, texts, item_rows).embeddings
        states = [ItemState(*pair) for pair in zip(found.kept, found.is_kept, strict=True)]
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
        plan = _Plan(users, self.config.n_blocks)
        bank, memories = self._closed(plan)
        found = self._open(plan.open_rows, bank, keep_past)
        vectors, weights, segments = found.interests, found.weight_logits, found.states
        windows: list[Tensor | None] = [None] * len(users)
        refined = [place for place, user in enumerate(users) if user.refine]
        if refined:
            chosen = torch.tensor(refined, device=self.device)
            found = self._refine([users[place] for place in refined], vectors[chosen], keep_past)
            vectors = vectors.index_copy(0, chosen, found.interests)
            weights = weights.index_copy(0, chosen, found.weight_logits)
            for place, states in zip(refined, found.states, strict=keep_past):
                windows[place] = states
        vectors_np = vectors.float().cpu().numpy()
        weights_np = weights.float().softmax(dim=-1).cpu().numpy()
        pasts = map(self._past, users, segments, windows) if keep_past else [None] * len(users)
        return [
            UserOutput(vectors_np[place], weights_np[place], [memories[row] for row in rows], past)
            for place, (rows, past) in enumerate(zip(plan.closed_of, pasts, strict=True))
        ]

    def _closed(self, plan: "_Plan") -> tuple[Tensor | None, Sequence[Memory]]:
        """Return all blocks, and those of them that were made now."""
        bank = None
        if plan.stored:
            bank = torch.from_numpy(np.stack(plan.stored)).to(self.device)
        if not plan.closed_rows:
            return bank, ()
        rows, past = as_tensors(plan.closed_rows, n_samples=0)
        made = self.bundle.model.light(rows.to(self.device), bank, past).memory
        return made if bank is None else torch.cat([bank, made]), made.cpu().numpy()

    def _open(self, rows: Sequence[Row], bank: Tensor | None, keep_past: bool) -> "_Found":
        parts: list[_Found] = []
        order: list[int] = []
        for group in alike([row.n_new for row in rows]):
            some = [rows[place] for place in group]
            tensors, past = as_tensors(some, n_samples=1)
            found = self.bundle.model.light(tensors.to(self.device), bank, past, with_memory=False)
            states: list[Tensor] = []
            if keep_past:
                new = stacked(found.events)
                states = [_extended(one.past, new[n], one.n_new) for n, one in enumerate(some)]
            parts.append(_Found(found.coarse[:, 0], found.weight_logits[:, 0], states))
            order += group
        return _in_order(parts, order)

    def _refine(self, users: Sequence[UserInput], coarse: Tensor, keep_past: bool) -> "_Found":
        model, n_kept = self.bundle.model, self.config.n_kept
        pasts = [None if user.past is None else user.past.window for user in users]
        known = [p.n_shared(user.window) if p else 0 for p, user in zip(pasts, users, strict=True)]
        n_new = [len(user.window) - n for user, n in zip(users, known, strict=True)]
        parts: list[_Found] = []
        order: list[int] = []
        for group in alike(n_new):
            items = [users[place].window[known[place] :] for place in group]
            kept, is_kept = self._items(items)
            befores = [
                past.states[:, :, :, : known[place] * n_kept] if past else None
                for place, past in ((place, pasts[place]) for place in group)
            ]
            counts = torch.tensor([[len(users[place].window)] for place in group])
            found = model.refine(
                model.tower.llm,
                kept,
                is_kept,
                coarse[torch.tensor(group, device=self.device)].unsqueeze(1),
                counts.to(self.device),
                self._items_before([users[p].window[: known[p]] for p in group], befores),
            )
            states: list[Tensor] = []
            if keep_past:
                new = stacked(found.items)
                states = [
                    _extended(before, new[n], n_new[place] * n_kept)
                    for n, (place, before) in enumerate(zip(group, befores, strict=True))
                ]
            parts.append(_Found(found.interests[:, 0], found.weight_logits[:, 0], states))
            order += group
        return _in_order(parts, order)

    def _items(self, windows: Sequence[Sequence[ItemState]]) -> tuple[Tensor, Tensor]:
        """Return items of some users, (B, n, t, F) and (B, n, t), padded on the right."""
        longest = max(1, max(len(window) for window in windows))
        shape = (len(windows), longest, self.config.n_kept)
        kept = torch.zeros((*shape, self.bundle.model.tower.llm.width), device=self.device)
        is_kept = torch.zeros(shape, dtype=torch.bool, device=self.device)
        for place, window in enumerate(windows):
            if window:
                kept[place, : len(window)] = torch.stack([state.kept for state in window])
                is_kept[place, : len(window)] = torch.stack([state.is_kept for state in window])
        return kept, is_kept

    def _items_before(
        self, windows: Sequence[Sequence[ItemState]], states: Sequence[Tensor | None]
    ) -> PastItems | None:
        some = next((one for one in states if one is not None and one.shape[3]), None)
        if some is None:
            return None
        nothing = some[:, :, :, :0]
        lengths = torch.tensor([len(window) for window in windows], device=self.device)
        joined = padded([nothing if one is None else one for one in states])
        _, is_kept = self._items(windows)
        return PastItems(Past(joined, lengths), is_kept)

    def _past(self, user: UserInput, segment: Tensor, window: Tensor | None) -> UserPast:
        digests = user.digests_before(len(user.blocks), self.config.n_blocks)
        items = None if user.past is None else user.past.window
        if window is not None:
            items = WindowPast(user.window, window)
        return UserPast(SegmentPast(digests, user.open_segment, segment), items)


@dataclass(frozen=True, slots=True)
class _Found:
    """Of B users, by one of the two recommenders."""

    interests: Tensor  # (B, K, D)
    weight_logits: Tensor  # (B, K)
    states: Sequence[Tensor]
    """(layers, 2, H, n, head width) of each user's events or items, where they are kept."""


def _in_order(parts: Sequence[_Found], order: Sequence[int]) -> _Found:
    """Join groups of users into the order that they had."""
    if len(parts) == 1:
        return parts[0]
    back = np.argsort(order)
    places = torch.from_numpy(back).to(parts[0].interests.device)
    states = [one for part in parts for one in part.states]
    return _Found(
        torch.cat([part.interests for part in parts])[places],
        torch.cat([part.weight_logits for part in parts])[places],
        [states[place] for place in back] if states else [],
    )


def _extended(before: Tensor | None, new: Tensor, n_new: int) -> Tensor:
    """Return (layers, 2, H, n, head width) with what is new behind it, in memory of its own."""
    own = new[:, :, :, :n_new]
    return own.clone() if before is None else torch.cat([before, own], dim=3)


class _Plan:
    """Rows of all users, and where the blocks that they read lie in the bank."""

    def __init__(self, users: Sequence[UserInput], n_blocks: int) -> None:
        self.stored: list[Memory] = []
        self.closed_rows: list[Row] = []
        self.closed_of: list[list[int]] = []
        """Each user's among them."""
        self.open_rows: list[Row] = []
        n_stored = sum(not isinstance(b, Columns) for user in users for b in user.blocks)
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
