"""Evaluation of what is served, beside two baselines on the same split.

Ours goes the way of serving: codes, memory blocks of closed segments, K interests, an item's score
the largest dot product.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from encoder.baselines import CoOccurrence, Popularity
from encoder.bundle import Bundle
from encoder.codebook import Floats
from encoder.engine import Engine
from encoder.histories import History, item_counts, lengths_of
from encoder.items import ItemState, ItemStates
from encoder.plan import UserInput
from encoder.progress import OnCount, OnPart, named, uncounted, unheard
from encoder.protocols import Protocol
from encoder.ranking import (
    Ranking,
    Score,
    Values,
    accuracy,
    beyond_accuracy,
    by_group,
    means,
    rank,
)
from encoder.segment_rows import Memory
from encoder.splits import Split
from encoder.start import tokens_of
from protos.segments import Columns

LENGTHS = (20, 50, 200, 1_000)
"""Edges of the groups by length of history."""
POPULARITIES = (10, 50, 200, 1_000)
"""Edges of the groups by events of the target."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One recommender on a split."""

    ranking: Ranking
    values: Mapping[str, Values]
    """By metric, one a case."""

    @property
    def figures(self) -> dict[str, float]:
        return means(self.values)


@dataclass(frozen=True, slots=True)
class Details:
    """All figures of one recommender."""

    figures: Mapping[str, float]
    beyond: Mapping[str, float]
    by_length: Mapping[str, Mapping[str, float]]
    """Of the history, in events."""
    by_popularity: Mapping[str, Mapping[str, float]]
    """Of the target, in events that could be learned from."""


def evaluate_all(
    bundle: Bundle, protocol: Protocol, progress: OnPart, device: str = "cpu"
) -> dict[str, Evaluated]:
    """Rank with ours and with the baselines, which learn from what the model may have.

    Args:
        progress: hears of each recommender's cases.
        device: where ours computes; the bundle's model is moved there.
    """
    split, known = protocol.split, protocol.known
    n_items = len(bundle.catalogue.item_ids)
    served = Served(bundle, device, progress=progress)
    popularity, neighbours = (kind(known, n_items) for kind in (Popularity, CoOccurrence))
    rankers: dict[str, Score] = {
        "refined": lambda histories: served.scores(histories, refine=True),
        "coarse": lambda histories: served.scores(histories, refine=False),
        "cooccurrence": lambda histories: np.stack([neighbours.scores(h) for h in histories]),
        "popularity": lambda histories: np.stack([popularity.scores(h) for h in histories]),
    }
    found = {}
    for name, score in rankers.items():
        ranking = _rank(split, score, named(progress, f"evaluate {name}"))
        found[name] = Evaluated(ranking, accuracy(ranking.hits))
    return found


def details(
    evaluated: Mapping[str, Evaluated], bundle: Bundle, protocol: Protocol
) -> dict[str, Details]:
    """Return, for each recommender, what lies beyond the mean accuracy: coverage, novelty and
    diversity; accuracy by length of history and by popularity of the target."""
    n_items = len(bundle.catalogue.item_ids)
    popularity = item_counts(protocol.known, n_items).astype(np.float64)
    lengths = lengths_of(protocol.split.histories).astype(np.float64)
    return {
        name: Details(
            one.figures,
            beyond_accuracy(one.ranking, popularity, bundle.catalogue.embeddings),
            by_group(one.values, lengths, LENGTHS),
            by_group(one.values, popularity[one.ranking.targets], POPULARITIES),
        )
        for name, one in evaluated.items()
    }


def evaluate_scores(split: Split, score: Score, progress: OnCount = uncounted) -> dict[str, float]:
    """Return the mean accuracy of one recommender."""
    return means(accuracy(_rank(split, score, progress).hits))


def _rank(split: Split, score: Score, progress: OnCount) -> Ranking:
    return rank(split, score, lambda done: progress(done, len(split)))


class Served:
    """Scores of histories as a worker and a vector store would give them."""

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cpu",
        *,
        items: ItemStates | None = None,
        progress: OnPart = unheard,
    ) -> None:
        """
        Args:
            device: where to compute; the bundle's model is moved there.
            items: the catalogue as the model encodes it, where that is known.
            progress: hears of the items that are encoded.
        """
        bundle.model.to(device)
        self._bundle = bundle
        self._engine = Engine(bundle, device)
        if items is None:
            items = _encoded(bundle, torch.device(device), named(progress, "encode items"))
        n_tokens = items.is_kept.sum(dim=1).tolist()
        pairs = zip(items.kept, n_tokens, strict=True)
        self._states: Sequence[ItemState] = [ItemState(*pair) for pair in pairs]

    def scores(self, histories: Sequence[History], *, refine: bool) -> Floats:
        """(B, N), the largest dot product over the K interests."""
        vectors = self.interests(histories, refine=refine)
        best: Floats = (vectors @ self._bundle.catalogue.embeddings.T).max(axis=1)
        return best

    def interests(self, histories: Sequence[History], *, refine: bool) -> Floats:
        """(B, K, D). Closed segments become memory blocks first, then only those are read."""
        users = [self.user_input(history, refine=refine) for history in histories]
        if any(user.blocks for user in users):
            with_blocks = self._engine.refresh([_light(user) for user in users])
            users = [
                _with_memory(user, output.memories)
                for user, output in zip(users, with_blocks, strict=True)
            ]
        return np.stack([output.vectors for output in self._engine.refresh(users)])

    def user_input(self, history: History, *, refine: bool) -> UserInput:
        """Return a user whose closed segments are all to be computed."""
        config = self._bundle.config
        segments = list(_segments(history, self._bundle))
        window: list[ItemState] = []
        if refine:
            recent = history.item_rows[config.window_start(len(history)) :]
            window = [self._states[row] for row in recent]
        return UserInput(segments[:-1], segments[-1], window, refine)


@torch.inference_mode()
def _encoded(bundle: Bundle, device: torch.device, progress: OnCount) -> ItemStates:
    tokens = tokens_of(bundle).to(device)
    rows = torch.arange(len(tokens.lengths), device=device)
    return bundle.model.tower.encode(tokens.tokens, tokens.lengths, rows, progress)


def _segments(history: History, bundle: Bundle) -> Iterator[Columns]:
    """Yield the closed segments and then the open one, which may be empty."""
    size = bundle.config.segment_size
    for begin in range(0, len(history) + 1, size):
        part = slice(begin, begin + size)
        rows = history.item_rows[part]
        yield Columns(
            hashes=np.zeros(len(rows), np.uint32),
            actions=history.actions[part],
            gaps=history.gaps[part],
            codes=bundle.catalogue.codes[rows],
            coded=np.ones(len(rows), bool),
            codebook_version=0,
        )


def _light(user: UserInput) -> UserInput:
    return UserInput(user.blocks, user.open_segment, [], False)


def _with_memory(user: UserInput, memories: Sequence[Memory]) -> UserInput:
    return UserInput(memories, user.open_segment, user.window, user.refine)
