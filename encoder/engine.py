"""From checked states of users to interest vectors: where wire values become tensors, and back.

One call computes a batch of users of any lengths: closed segments that have no memory block yet,
open segments, then the LLM over the recent items. It is a pure function of the model and its
arguments; caches live above it (encoder/worker.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder.bundle import Bundle
from encoder.codebook import Codes, Floats
from encoder.items import NO_VECTOR, ItemStates, ItemTower
from encoder.light import NO_BLOCK, LightOutput, Rows
from encoder.texts import item_tokens
from protos.segments import Columns

Memory = npt.NDArray[np.float16]
"""(layers, 2, M, width): a memory block."""


@dataclass(frozen=True, slots=True)
class ItemState:
    """Shallow states of one item, as the cache keeps them."""

    kept: Tensor  # (t, F)
    is_kept: Tensor  # (t,) bool


@dataclass(frozen=True, slots=True)
class UserInput:
    """A checked state of one user."""

    blocks: Sequence[Memory | Columns]
    """The newest closed segments, oldest first: memory, or the segment to make it from."""
    open_segment: Columns
    window: Sequence[ItemState]
    """The window of recent items, oldest first; not read when `refine` is False."""
    refine: bool

    @property
    def n_tokens(self) -> int:
        """How much work it is: segments to compute, in events, and tokens of the LLM."""
        segments = [block for block in self.blocks if isinstance(block, Columns)]
        events = len(self.open_segment.actions) + sum(len(s.actions) for s in segments)
        return max(1, events + (len(self.window) if self.refine else 0))


@dataclass(frozen=True, slots=True)
class UserOutput:
    vectors: Floats  # (K, D), unit length
    weights: Floats  # (K,), sum to 1
    memories: Sequence[Memory]
    """Of the blocks that came as segments, in their order."""


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
    def refresh(self, users: Sequence[UserInput]) -> list[UserOutput]:
        """Compute interests of a batch of users; every user has at least one event."""
        layout = _Layout(users, self.config.n_blocks)
        light = self._light(layout)
        open_rows = torch.tensor(layout.open_rows, device=self.device)
        vectors = light.coarse[open_rows, 0]  # (B, K, D)
        weights = light.weight_logits[open_rows, 0]  # (B, K)
        refined = [place for place, user in enumerate(users) if user.refine]
        if refined:
            chosen = torch.tensor(refined, device=self.device)
            found = self._refine([users[place] for place in refined], vectors[chosen])
            vectors, weights = vectors.clone(), weights.clone()
            vectors[chosen], weights[chosen] = found
        memories = light.memory.cpu().numpy()
        vectors_np = vectors.float().cpu().numpy()
        weights_np = weights.float().softmax(dim=-1).cpu().numpy()
        return [
            UserOutput(vectors_np[place], weights_np[place], [memories[row] for row in rows])
            for place, rows in enumerate(layout.closed_rows)
        ]

    def _light(self, layout: "_Layout") -> LightOutput:
        bank = None
        if layout.stored:
            bank = torch.from_numpy(np.stack(layout.stored)).to(self.device)
        found: LightOutput = self.bundle.model.light(layout.rows().to(self.device), bank)
        return found

    def _refine(self, users: Sequence[UserInput], coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Return refined interests (B, K, D) and weight logits (B, K)."""
        cfg = self.config
        longest = max(1, max(len(user.window) for user in users))
        width = self.bundle.model.tower.llm.width
        kept = torch.zeros((len(users), longest, cfg.n_kept, width), device=self.device)
        is_kept = torch.zeros(kept.shape[:3], dtype=torch.bool, device=self.device)
        for place, user in enumerate(users):
            n = len(user.window)
            if n:
                kept[place, :n] = torch.stack([state.kept for state in user.window])
                is_kept[place, :n] = torch.stack([state.is_kept for state in user.window])
        counts = torch.tensor([[len(user.window)] for user in users], device=self.device)
        model = self.bundle.model
        found = model.refine(model.tower.llm, kept, is_kept, coarse.unsqueeze(1), counts)
        return found.interests[:, 0], found.weight_logits[:, 0]


class _Layout:
    """Which row computes what: segments without a block first, user by user, then open segments."""

    def __init__(self, users: Sequence[UserInput], n_blocks: int) -> None:
        self._users, self._n_blocks = users, n_blocks
        self.stored: list[Memory] = []
        self.segments: list[Columns] = []
        self.closed_rows: list[list[int]] = []
        self._prior: list[list[int]] = []
        n_stored = sum(not isinstance(b, Columns) for user in users for b in user.blocks)
        newest: list[list[int]] = []
        for user in users:
            places: list[int] = []
            rows: list[int] = []
            for block in user.blocks:
                if isinstance(block, Columns):
                    rows.append(len(self.segments))
                    places.append(n_stored + len(self.segments))
                    self._prior.append(places[-2 : -2 - n_blocks : -1])
                    self.segments.append(block)
                else:
                    places.append(len(self.stored))
                    self.stored.append(block)
            newest.append(places[: -1 - n_blocks : -1])
            self.closed_rows.append(rows)
        self.open_rows = list(range(len(self.segments), len(self.segments) + len(users)))
        self.segments += [user.open_segment for user in users]
        self._prior += newest

    def rows(self) -> Rows:
        lengths = np.array([len(segment.actions) for segment in self.segments])
        n_rows, longest = len(lengths), max(1, int(lengths.max()))
        n_prior = max(len(places) for places in self._prior)
        n_levels = self.segments[0].codes.shape[1]
        codes = np.zeros((n_rows, longest, n_levels), np.uint8)
        is_coded = np.zeros((n_rows, longest), bool)
        actions = np.zeros((n_rows, longest), np.uint8)
        gaps = np.zeros((n_rows, longest), np.int64)
        prior = np.full((n_rows, n_prior), NO_BLOCK, np.int64)
        for row, segment in enumerate(self.segments):
            n = lengths[row]
            codes[row, :n], is_coded[row, :n] = segment.codes, segment.coded
            actions[row, :n], gaps[row, :n] = segment.actions, segment.gaps
            prior[row, : len(self._prior[row])] = self._prior[row]
        return Rows(
            codes=torch.from_numpy(codes),
            is_coded=torch.from_numpy(is_coded),
            actions=torch.from_numpy(actions),
            gaps=torch.from_numpy(gaps),
            lengths=torch.from_numpy(lengths),
            prior=torch.from_numpy(prior),
            counts=torch.from_numpy(lengths)[:, None],
        )
