"""From checked states of users to interest vectors: where wire values become tensors, and back.

One call computes a batch of users of any lengths: closed segments that have no memory block yet,
open segments, then the LLM over the recent items. What comes out is a function of the model and the
arguments; what an earlier call left in the users' slots changes what is computed. Caches of items
and blocks live above it (encoder/worker.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from encoder.bundle import Bundle
from encoder.codebook import Codes, Floats
from encoder.config import ModelConfig
from encoder.items import NO_VECTOR, ItemState, ItemStates, ItemTower
from encoder.light import Rows
from encoder.passes import Compiling, Found, Route, light_routes, llm_routes
from encoder.past import Past
from encoder.plan import Plan, UserInput
from encoder.segment_rows import Memory, Row, as_tensors, no_block
from encoder.texts import item_tokens
from encoder.upload import upload
from encoder.user_slots import Kept, UserSlots
from encoder.window_rows import WindowRow, as_windows


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
        rows = upload(torch.tensor(item_rows, dtype=torch.long), self.device)
        places = upload(torch.from_numpy(lengths), self.device)
        return tower.encode(upload(torch.from_numpy(tokens), self.device), places, rows)

    def unknown_item(self) -> ItemState:
        """Return the state of an item whose text nobody has: [ITEM] alone, no vector."""
        return self.encode_items([""], [NO_VECTOR]).states[0]

    def refresh(self, users: Sequence[UserInput]) -> list[UserOutput]:
        """Compute interests of a batch of users; every user has at least one event.

        Numbers that are not finite come out where blocks hold too great ones, and are not kept.
        """
        return self.run(self.plan(users))

    @torch.inference_mode()
    def plan(self, users: Sequence[UserInput]) -> "Planned":
        """Do what Python does of `refresh` before the first pass; `run` must follow, and nothing of
        these users between."""
        held = self._users.take([user.name for user in users])
        try:
            plan = Plan(users, held, self.config.n_blocks, self._fillers)
            groups = self._light.groups([row.n_new for row in plan.open_rows])
            passes = [self._light_pass(plan.open_rows, places, route) for places, route in groups]
            results = _Results(len(users), self.config, self.device)
            return Planned(users, held, plan, plan.bank(self.device), passes, results)
        except BaseException:
            self._users.drop(held)
            raise

    @torch.inference_mode()
    def run(self, planned: "Planned") -> list[UserOutput]:
        """Do the rest of `refresh`: first of all a pass, so that other threads have Python for
        themselves. Even a small operation of torch gives it away, and who took it keeps it."""
        users, held = planned.users, planned.held
        try:
            outputs = self._outputs(planned)
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

    def _light_pass(self, rows: Sequence[Row], places: list[int], route: Route) -> "_LightPass":
        some = [rows[place] for place in places]
        tensors, past = as_tensors(some, self._users.segments, n_samples=1, padding=route.padding)
        return _LightPass(places, route, tensors.to(self.device), past)

    def _outputs(self, planned: "Planned") -> list[UserOutput]:
        bank, memories = self._closed(planned.plan.closed_rows, planned.bank)
        results = planned.results
        for one in planned.light_passes:
            results.put(one.places, one.route.compute(one.rows, bank, one.past))
        self._refine(planned.users, planned.held, results)
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
            for place, rows in enumerate(planned.plan.closed_of)
        ]

    def _closed(
        self, closed_rows: Sequence[Row], bank: Tensor | None
    ) -> tuple[Tensor | None, Sequence[Memory]]:
        """Return all blocks, and those of them that were made now."""
        if not closed_rows:
            return bank, ()
        rows, past = as_tensors(closed_rows, self._users.segments, n_samples=0)
        read = past if past.n_tokens else None
        made = self.bundle.model.light(rows.to(self.device), bank, read).memory
        return made if bank is None else torch.cat([bank, made]), made.cpu().numpy()

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


@dataclass(frozen=True, slots=True)
class _LightPass:
    places: list[int]
    """Of its rows' users."""
    route: Route
    rows: Rows
    past: Past


@dataclass(frozen=True, slots=True)
class Planned:
    """A batch of users, ready for the first pass."""

    users: Sequence[UserInput]
    held: Sequence[Kept]
    plan: Plan
    bank: Tensor | None
    light_passes: Sequence[_LightPass]
    results: "_Results"


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
        return upload(torch.tensor(places), self.interests.device)
