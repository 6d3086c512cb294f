"""Models that lack one of the ideas, for `freshet bench ablations`: each differs in one thing from
the hybrid, or from another that it names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from encoder.bundle import Bundle
from encoder.codebook import Floats
from encoder.config import HSTU, ModelConfig
from encoder.grouped_llm import GroupedLlm, additive
from encoder.histories import History
from encoder.items import ItemStates, ItemTower
from encoder.light import LightOutput, LightRecommender, Rows
from encoder.llm import LlmRecommender, PastItems, row_layout, with_newest
from encoder.objective import Encoded, Objective
from encoder.past import KeysValues, Past
from encoder.recipe import Recipe
from encoder.samples import Batch


@dataclass(frozen=True, slots=True)
class Variant:
    """How a run differs from the hybrid."""

    says: str
    model: Mapping[str, int | str]
    """Fields of ModelConfig."""
    change: Callable[[Bundle], Bundle] = lambda start: start
    """Applied to what training starts from."""
    objective: type[Objective] = Objective
    refined: bool = True
    """Whether the LLM has a say in what is judged."""
    recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe
    """Applied to that of the run; how many epochs there are in all stays."""
    longest: int | None = None
    """Newest events of a history that are kept, in training and in evaluation."""
    against: str = "hybrid"
    """The variant that it is compared with."""

    def cut(self, history: History) -> History:
        return history if self.longest is None else history.last(self.longest)

    def sized(self, config: ModelConfig) -> ModelConfig:
        return replace(config, **self.model)  # type: ignore[arg-type]


class LightOnly(Objective):
    """The LLM takes no part."""

    def _refine(self, batch: Batch, shared: Encoded, coarse: Tensor, counts: Tensor) -> None:
        return None


class Blind(LightRecommender):
    """Coarse interests that say nothing: the LLM is on its own."""

    def forward(
        self,
        rows: Rows,
        bank: Tensor | None = None,
        past: Past | None = None,
        *,
        with_memory: bool = True,
    ) -> LightOutput:
        found = super().forward(rows, bank, past, with_memory=with_memory)
        return replace(found, coarse=found.coarse * 0.0)


class FullVectors(LightRecommender):
    """Reads items' full vectors where the others read codes: a "code" is the bytes of a row."""

    full: Tensor  # (N, D)

    def items(self, codes: Tensor) -> Tensor:
        rows = codes[..., 0].long() + 256 * codes[..., 1].long()
        return cast(Tensor, self.read(self.full[rows]) * self.config.dim**0.5)


class PlainDeep(GroupedLlm):
    """Deep layers that see inside items too."""

    def across(
        self,
        states: Tensor,
        positions: Tensor,
        middle: Tensor,
        deep: Tensor,
        past: Past | None = None,
    ) -> tuple[Tensor, Sequence[KeysValues]]:
        return super().across(states, positions, middle, middle, past)


class PlainShallow(LlmRecommender):
    """Shallow layers, too, see all before: they read a row as a whole, its items' tokens as they
    are (RawTokens), coarse interests and queries. They leave nothing to later rows."""

    def _row(
        self,
        llm: GroupedLlm,
        kept: Tensor,
        is_kept: Tensor,
        coarse: Tensor,
        counts: Tensor,
        before: PastItems | None,
    ) -> Tensor:
        assert before is None, "a past has no shallow layers"
        tail = self.tail(coarse)
        layout = row_layout(is_kept, counts, self.config.n_interests)
        row = torch.cat([kept.flatten(1, 2), tail.flatten(1, 3)], dim=1)
        mask = additive(layout.middle, row.dtype)
        row = llm._run(llm._layers[: llm.cuts[0]], row, layout.positions, mask)
        n_head = row.shape[1] - tail.shape[1:4].numel()
        items, tail = row[:, :n_head], row[:, n_head:].view(tail.shape)
        return torch.cat([items, with_newest(tail, items.view(kept.shape), counts)], dim=1)


class RawTokens(ItemTower):
    """Keeps items' tokens as they are before the shallow layers; embeddings are the tower's."""

    def forward(self, tokens: Tensor, lengths: Tensor, item_rows: Tensor) -> ItemStates:
        found = super().forward(tokens, lengths, item_rows)
        kept, _ = self.keep(self.embed(tokens, lengths, item_rows), lengths)
        return replace(found, kept=kept)


def _with_light(kind: type[LightRecommender], start: Bundle) -> Bundle:
    book = start.codebook
    light = kind(start.config, torch.from_numpy(book.centres), torch.from_numpy(book.magnitudes))
    light.load_state_dict(start.model.light.state_dict())
    start.model.light = light
    return start


def _with_tower(start: Bundle, kind: type[ItemTower], llm: type[GroupedLlm]) -> Bundle:
    old = start.model.tower
    tower = kind(start.config, start.llm_config, len(old.item_vectors.weight))
    tower.llm = llm(start.config, start.llm_config)
    tower.load_state_dict(old.state_dict())
    start.model.tower = tower
    return start


def _without_shallow_mask(start: Bundle, llm: type[GroupedLlm]) -> Bundle:
    refine = PlainShallow(start.config, start.model.tower.llm.width)
    refine.load_state_dict(start.model.refine.state_dict())
    start.model.refine = refine
    return _with_tower(start, RawTokens, llm)


def _with_full_vectors(start: Bundle) -> Bundle:
    vectors: Floats = start.catalogue.embeddings
    rows = np.arange(len(vectors))
    codes = np.zeros((len(rows), start.config.n_levels), np.uint8)
    codes[:, 0], codes[:, 1] = rows % 256, rows // 256
    light = _with_light(FullVectors, start).model.light
    light.register_buffer("full", torch.from_numpy(vectors).float(), persistent=False)
    return replace(start, catalogue=replace(start.catalogue, codes=codes))


def _joint(recipe: Recipe) -> Recipe:
    return replace(recipe, warm_epochs=0, epochs=recipe.warm_epochs + recipe.epochs)


ALL_TOKENS = {"kept_tokens": 0, "max_item_tokens": 16}
"""The longest text of MovieLens-100K has 25, one in twenty more than 16: rows half as long again
take twice the time."""
TWO_DEEP = ALL_TOKENS | {"deep_layers": 2}
"""What lacks a mask has these, for queries see no inside of an item: what items see in the last
layer reaches nobody, so with one deep layer its mask changes no interest."""
VARIANTS: Mapping[str, Variant] = {
    "hybrid": Variant("as it is", {}),
    "light": Variant("the light recommender alone", {}, objective=LightOnly, refined=False),
    "llm": Variant("the LLM alone: coarse interests say nothing", {}, partial(_with_light, Blind)),
    "hstu": Variant("HSTU's layers in the light recommender", {"light_block": HSTU}),
    "k1": Variant("K = 1", {"n_interests": 1}),
    "k2": Variant("K = 2", {"n_interests": 2}),
    "k8": Variant("K = 8", {"n_interests": 8}, recipe=partial(replace, n_targets=2 * 8)),
    "tokens2": Variant("2 tokens an item after the shallow layers", {"kept_tokens": 2}),
    "tokens-all": Variant("all tokens after the shallow layers", ALL_TOKENS),
    "two-deep": Variant("all tokens, 2 deep layers, all masks", TWO_DEEP, against="tokens-all"),
    "no-deep-mask": Variant(
        "no deep mask",
        TWO_DEEP,
        partial(_with_tower, kind=ItemTower, llm=PlainDeep),
        against="two-deep",
    ),
    "no-shallow-mask": Variant(
        "no shallow mask",
        TWO_DEEP,
        partial(_without_shallow_mask, llm=GroupedLlm),
        against="two-deep",
    ),
    "no-masks": Variant(
        "neither shallow nor deep mask",
        TWO_DEEP,
        partial(_without_shallow_mask, llm=PlainDeep),
        against="two-deep",
    ),
    "joint": Variant("no warm-up: all learns from the first step", {}, recipe=_joint),
    "full-vectors": Variant("full vectors in place of codes", {}, _with_full_vectors),
    "memory0": Variant("no memory tokens", {"n_memory": 0}),
    "memory1": Variant("1 memory token", {"n_memory": 1}),
    "memory8": Variant("8 memory tokens", {"n_memory": 8}),
    "newest50": Variant("newest 50 events", {}, longest=50),
    "newest200": Variant("newest 200 events", {}, longest=200),
    "newest1000": Variant("newest 1,000 events", {}, longest=1_000),
}
