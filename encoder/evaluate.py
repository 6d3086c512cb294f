"""Leave-one-out evaluation of what is served, beside two baselines on the same split.

The last event of each user (by time, ties in the order of the file) is the target; everything
before it is history. Full ranking over the catalogue, items of the history left out. Ours goes the
way of serving: codes, memory blocks of closed segments, K interests, an item's score the largest
dot product.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG

from encoder.baselines import CoOccurrence, Popularity
from encoder.bundle import Bundle
from encoder.codebook import Floats
from encoder.engine import Engine, ItemState, Memory, UserInput
from encoder.histories import History
from protos.errors import InvalidInput
from protos.segments import Columns

TOP = 200
USERS_AT_ONCE = 64
PROTOCOL = (
    "leave-one-out: last event of each user by time (ties in file order); full ranking over the "
    "catalogue; items of the history left out; ours as served (codes, memory blocks, K interests)"
)

Scores = Floats
"""(B, N)"""


@dataclass(frozen=True, slots=True)
class Split:
    histories: Sequence[History]
    """Without the last event; at least one event each."""
    targets: Sequence[int]
    """The item of the last event."""


def leave_one_out(histories: Sequence[History], n_held: int = 1) -> Split:
    """Hold out the `n_held`-th event from the end of each user, and drop what comes after it.

    Raises InvalidInput when nobody has enough events.
    """
    usable = [history for history in histories if len(history) > n_held]
    if not usable:
        raise InvalidInput(f"no user has more than {n_held} events; nothing can be held out")
    cut = [history.first(len(history) - n_held) for history in usable]
    targets = [int(h.item_rows[len(c)]) for h, c in zip(usable, cut, strict=True)]
    return Split(cut, targets)


def compare(
    bundle: Bundle, split: Split, progress: Callable[[str, int, int], None]
) -> dict[str, dict[str, float]]:
    """Return metrics by recommender. `progress` hears (name, users done, of)."""
    n_items = len(bundle.catalogue.item_ids)
    served = Served(bundle)
    popularity, neighbours = (kind(split.histories, n_items) for kind in (Popularity, CoOccurrence))
    rankers: dict[str, Callable[[Sequence[History]], Scores]] = {
        "refined": lambda histories: served.scores(histories, refine=True),
        "coarse": lambda histories: served.scores(histories, refine=False),
        "cooccurrence": lambda histories: np.stack([neighbours.scores(h) for h in histories]),
        "popularity": lambda histories: np.stack([popularity.scores(h) for h in histories]),
    }
    found = {}
    for name, rank in rankers.items():

        def done(n_users: int, name: str = name) -> None:
            progress(name, n_users, len(split.targets))

        found[name] = evaluate_scores(split, rank, done)
    return found


def evaluate_scores(
    split: Split,
    rank: Callable[[Sequence[History]], Scores],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """Return HR@1/5/10/50, NDCG@10 and MRR@200 of a recommender."""
    tops, hits = [], []
    for begin in range(0, len(split.targets), USERS_AT_ONCE):
        chunk = slice(begin, begin + USERS_AT_ONCE)
        scores = rank(split.histories[chunk]).astype(np.float64)
        for row, history in enumerate(split.histories[chunk]):
            scores[row, history.item_rows] = -np.inf
        top = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        tops.append(np.take_along_axis(scores, top, axis=1))
        hits.append(top == np.array(split.targets[chunk])[:, None])
        progress(min(begin + USERS_AT_ONCE, len(split.targets)))
    return metrics_of(np.concatenate(hits))


def metrics_of(hits: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> dict[str, float]:
    """Return metrics of ranked lists, (B, places) bool, best place first."""
    n_users, n_places = hits.shape
    places = torch.arange(n_places, 0, -1.0).repeat(n_users)
    users = torch.arange(n_users).repeat_interleave(n_places)
    target = torch.from_numpy(hits.ravel())
    wanted = {f"hr@{k}": RetrievalHitRate(top_k=k) for k in (1, 5, 10, 50)}
    metrics = {**wanted, "ndcg@10": RetrievalNormalizedDCG(top_k=10), f"mrr@{TOP}": RetrievalMRR()}
    return {name: round(float(m(places, target, indexes=users)), 5) for name, m in metrics.items()}


class Served:
    """Scores of histories as a worker and a vector store would give them."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._engine = Engine(bundle)
        catalogue = bundle.catalogue
        found = self._engine.encode_items(catalogue.texts, range(len(catalogue.texts)))
        self._states: Sequence[ItemState] = found.states

    def scores(self, histories: Sequence[History], *, refine: bool) -> Scores:
        """(B, N), the largest dot product over the K interests."""
        vectors = self.interests(histories, refine=refine)
        best: Scores = (vectors @ self._bundle.catalogue.embeddings.T).max(axis=1)
        return best

    def interests(self, histories: Sequence[History], *, refine: bool) -> Floats:
        """(B, K, D). Closed segments become memory blocks first, then only those are read."""
        users = [self._input(history, refine) for history in histories]
        if any(user.blocks for user in users):
            with_blocks = self._engine.refresh([_light(user) for user in users])
            users = [
                _with_memory(user, output.memories)
                for user, output in zip(users, with_blocks, strict=True)
            ]
        return np.stack([output.vectors for output in self._engine.refresh(users)])

    def _input(self, history: History, refine: bool) -> UserInput:
        config = self._bundle.config
        segments = list(_segments(history, self._bundle))
        window: list[ItemState] = []
        if refine:
            recent = history.item_rows[config.window_start(len(history)) :]
            window = [self._states[row] for row in recent]
        return UserInput(segments[:-1], segments[-1], window, refine)


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
