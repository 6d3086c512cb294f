"""The two passes of a refresh, tensors in and tensors out: what a compiler can take as a whole.

Nearly every refresh is an event more on a past. Alone it is all fixed cost: PyTorch starts two
thousand small operations for it. Compiled (FRESHET_ENCODER_COMPILE), one graph of each pass serves
all such rows, whatever their number. A second one serves rows with more that is new, padded to the
length of a window that was cut back: some user of a batch nearly always has one. Other rows, whose
work outweighs the fixed cost, are computed as they are.

What is new of a row is written behind its past by the pass itself: a compiler does that in place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.export import register_dataclass

from encoder.compiled import compiled, flat
from encoder.config import ModelConfig
from encoder.light import Rows
from encoder.llm import PastItems
from encoder.model import Recommender
from encoder.past import NO_PADDING, Padding, Past
from encoder.segment_rows import alike
from encoder.unlocked import Run


@dataclass(frozen=True, slots=True)
class Found:
    """Of R users, by one of the two recommenders."""

    interests: Tensor  # (R, K, D), unit length
    weight_logits: Tensor  # (R, K)


for kind in (Rows, Past, PastItems, Found):
    register_dataclass(kind, serialized_type_name=kind.__name__)


class LightPass(nn.Module):
    """Open segments -> coarse interests."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self._light = model.light

    def forward(self, rows: Rows, bank: Tensor | None, past: Past) -> Found:
        found = self._light(rows, bank, past if past.n_tokens else None, with_memory=False)
        past.write(found.events)
        return Found(found.coarse[:, 0], found.weight_logits[:, 0])


class LlmPass(nn.Module):
    """Recent items and coarse interests -> refined interests."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self._refine, self._llm = model.refine, model.tower.llm

    def forward(
        self,
        kept: Tensor,
        is_kept: Tensor,
        coarse: Tensor,
        counts: Tensor,
        before: PastItems,
    ) -> Found:
        past = before.past
        read = before if past.n_tokens else None
        found = self._refine(self._llm, kept, is_kept, coarse, counts, read)
        past.write(found.items, n_tokens=kept.shape[2])
        return Found(found.interests[:, 0], found.weight_logits[:, 0])


@dataclass(frozen=True, slots=True)
class Route:
    """A way through a pass."""

    compute: Callable[..., Found]
    padding: Padding
    """Of its rows."""


@dataclass(frozen=True, slots=True)
class Compiling:
    """Where compiled passes are kept, and of which model."""

    folder: Path
    model_version: str


class Routes:
    """The ways through one pass: compiled for rows with little that is new, plain for others."""

    def __init__(
        self, module: nn.Module, paddings: Sequence[Padding], compiling: Compiling | None
    ) -> None:
        """
        Args:
            paddings: of compiled rows, for less that is new first.
            compiling: None compiles nothing.
        """
        self._plain = Route(module, NO_PADDING)
        self._compiled = [
            Route(_Compiled(module, compiling), padding) for padding in paddings if compiling
        ]

    def groups(self, n_new: Sequence[int]) -> Iterator[tuple[list[int], Route]]:
        """Yield the places, ascending, of rows that are computed together, and their way.

        Args:
            n_new: events or items of each row that are new.
        """
        left: Sequence[int] = range(len(n_new))
        for route in self._compiled:
            few = [place for place in left if n_new[place] <= route.padding.n_new]
            if few:
                yield few, route
            left = [place for place in left if n_new[place] > route.padding.n_new]
        for group in alike([n_new[place] for place in left]):
            yield [left[place] for place in group], self._plain


class _Compiled:
    """A pass that is compiled, or loaded, when it is first called."""

    def __init__(self, module: nn.Module, compiling: Compiling) -> None:
        self._module, self._compiling = module, compiling
        self._run: Run | None = None

    def __call__(self, *inputs: object) -> Found:
        if self._run is None:
            where = self._compiling
            self._run = compiled(self._module, inputs, where.folder, where.model_version)
        return Found(*self._run(flat(inputs)))


def light_routes(model: Recommender, compiling: Compiling | None) -> Routes:
    config = model.config
    paddings = [Padding(n, config.n_blocks, has_past=True) for n in _n_new(config)]
    return Routes(LightPass(model), paddings, compiling)


def llm_routes(model: Recommender, compiling: Compiling | None) -> Routes:
    paddings = [Padding(n, has_past=True) for n in _n_new(model.config)]
    return Routes(LlmPass(model), paddings, compiling)


def _n_new(config: ModelConfig) -> list[int]:
    """Return how many events or items are new at most in rows of each compiled graph."""
    return sorted({1, config.recent_size // 2})
