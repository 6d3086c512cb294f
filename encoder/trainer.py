"""The training loop: resumable to the step, alone or one of several processes.

Which users make a batch, and all that is drawn at random, is a function of the seed and the place
in the run; the rest of a state is in `state_dict`. So a run that was killed and resumed ends in the
same weights as one that was not, on the same machine. A state is only whole between two steps of
the tower (`is_settled`).

With several processes (torchrun) each takes every n-th batch of an epoch, and gradients are
averaged before each step. All begin with the same weights and take the same steps.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from encoder.adapters import add_adapters, merge_adapters
from encoder.bundle import Bundle
from encoder.candidates import Candidates, draw
from encoder.histories import History, item_counts, lengths_of
from encoder.items import NO_VECTOR, ItemStates
from encoder.model import CatalogueTokens
from encoder.objective import Encoded, Objective
from encoder.peers import Peers
from encoder.progress import OnCount, uncounted
from encoder.recipe import Recipe
from encoder.samples import Batch, Plan, Sampling, make_batch, n_batches, plan_epoch
from encoder.wins import Wins, WinShares

WARM_UP, ALL = "warm-up", "all"
RATE_WARM_UP_STEPS = 20
LEAST_RATE = 0.02
"""Of the learning rate, at the end."""


@dataclass(frozen=True, slots=True)
class Step:
    """Said after every step."""

    stage: str
    """WARM_UP or ALL"""
    epoch: int
    done: int
    """Steps of the stage."""
    of: int
    losses: Mapping[str, float]
    n_events: int
    """That were learned from, in all processes together."""
    seconds: float
    n_done: int
    """Steps of all stages."""
    ends_epoch: bool
    win_shares: WinShares = field(default_factory=dict)
    """Of an epoch that ends here; none in the warm-up."""


@dataclass(slots=True)
class Place:
    """The next batch."""

    epoch: int = 0
    batch: int = 0


class Trainer:
    """Trains the model of a bundle in place."""

    def __init__(
        self,
        start: Bundle,
        tokens: CatalogueTokens,
        histories: Sequence[History],
        recipe: Recipe,
        *,
        peers: Peers,
        device: torch.device,
        autocast: torch.dtype | None = None,
        objective: type[Objective] = Objective,
    ) -> None:
        """
        Args:
            tokens: texts of the bundle's catalogue.
            histories: at least two events each.
            autocast: what matrices are multiplied in; None as they are.
        """
        self.device = device
        self.model = start.model.to(device)
        self._start = start
        self._tokens = tokens.to(device)
        self._codes = start.catalogue.codes
        self._histories, self._recipe, self._config = histories, recipe, start.config
        self._peers, self._autocast = peers, autocast
        llm = self.model.tower.llm.llm
        self._adapters = add_adapters(llm, recipe.lora_rank) if recipe.lora_rank else None
        frozen = {n for n, p in self.model.named_parameters() if not p.requires_grad}
        self._frozen = frozen  # an LLM's own weights beside adapters
        tower_names = _tower_parameters(start)
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self._tower = [p for name, p in named.items() if name in tower_names]
        self._rest = [p for name, p in named.items() if name not in tower_names]
        self._tower_optimizer = _optimizer(self._tower, recipe)
        self._optimizer = _optimizer(self._rest, recipe)
        self._objective = objective(self.model, recipe)
        self._item_counts = item_counts(histories, len(tokens.lengths))
        self._has_vector = torch.from_numpy(self._item_counts > 0).to(device)
        self._lengths = lengths_of(histories)
        sampling = Sampling(
            recipe.n_windows, recipe.n_samples, recipe.n_targets, recipe.rows_a_batch
        )
        self._sampling = sampling
        self._warm_sampling = replace(sampling, n_windows=1, n_samples=1)
        self._steps_an_epoch = -(-n_batches(self._lengths, self._config, sampling) // peers.count)
        self._place = Place()
        self._n_done = 0
        self._shared: Encoded | None = None
        self._wins = Wins(self._config.n_interests)

    @property
    def win_shares(self) -> WinShares:
        """Of the newest epoch, up to the newest step of the tower."""
        return self._wins.shares

    @property
    def stage(self) -> str:
        """Of the next step."""
        return WARM_UP if self._place.epoch < self._recipe.warm_epochs else ALL

    @property
    def is_in_first_round(self) -> bool:
        """Whether the next step is of an epoch's first round of the tower."""
        return self._place.batch < self._recipe.tower_every

    @property
    def is_settled(self) -> bool:
        """Whether `state_dict` is a whole state."""
        return self._shared is None

    def run(self) -> Iterator[Step]:
        """Train from where the state stands to the end, and stop after each step for the caller."""
        recipe = self._recipe
        while self._place.epoch < recipe.warm_epochs + recipe.epochs:
            yield from self._run_epoch(self._place.epoch)

    def _run_epoch(self, epoch: int) -> Iterator[Step]:
        if self._place.batch == 0:
            self._wins.clear()
        stage = self.stage
        sampling = self._warm_sampling if stage == WARM_UP else self._sampling
        rng = np.random.default_rng((self._recipe.seed, epoch))
        plan = plan_epoch(self._lengths, self._config, sampling, rng)
        n_rounds = -(-len(plan) // self._peers.count)
        while self._place.epoch == epoch:
            start = time.monotonic()
            first = self._place.batch
            rounds = range(first, min(first + self._recipe.tower_every, n_rounds))
            batches = [self._batch(plan, one, epoch, sampling) for one in rounds]
            candidates = self._candidates(batches, epoch)
            for one, batch in zip(rounds, batches, strict=True):
                losses = self._step(candidates.placed(batch.to(self.device)), candidates, stage)
                self._n_done += 1
                if one == rounds[-1]:
                    self._step_tower()
                is_last = one == n_rounds - 1
                self._place = Place(epoch + 1) if is_last else Place(epoch, one + 1)
                done, of = self._progress(stage)
                yield Step(
                    stage=stage,
                    epoch=epoch,
                    done=done,
                    of=of,
                    losses=losses,
                    n_events=batch.n_events * self._peers.count,
                    seconds=time.monotonic() - start,
                    n_done=self._n_done,
                    ends_epoch=is_last,
                    win_shares=self.win_shares if is_last else {},
                )
                start = time.monotonic()

    def _batch(self, plan: Plan, number: int, epoch: int, sampling: Sampling) -> Batch:
        """Return this process's batch of a round, on the CPU."""
        place = (number * self._peers.count + self._peers.rank) % len(plan)
        rng = np.random.default_rng((self._recipe.seed, epoch, place))
        users = [self._histories[user] for user in plan[place]]
        return make_batch(users, self._codes, self._config, sampling, rng)

    def _candidates(self, batches: Sequence[Batch], epoch: int) -> Candidates:
        rng = np.random.default_rng((self._recipe.seed, epoch, self._place.batch, self._peers.rank))
        found = draw(batches, self._item_counts, self._recipe.n_candidates, rng)
        return found.to(self.device)

    def _progress(self, stage: str) -> tuple[int, int]:
        """Return the stage's steps, done and to be taken."""
        warm = self._recipe.warm_epochs * self._steps_an_epoch
        done, of = self._n_done, warm
        if stage == ALL:
            done, of = done - warm, self._recipe.epochs * self._steps_an_epoch
        return max(0, done), max(done, of)

    # -- one step ------------------------------------------------------------------------------

    def _step(self, batch: Batch, candidates: Candidates, stage: str) -> dict[str, float]:
        self.model.train()  # it comes from a bundle, or from a look at it: without dropout
        self._set_rates()
        cost_of = self._objective.warm_up if stage == WARM_UP else self._objective.interests
        with torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None):
            if self._shared is None:
                self._seed()
                self._shared = Encoded.of(self._encode_some(candidates.rows), candidates)
            cost = cost_of(batch, self._shared)
        cost.loss.backward()
        self._peers.average_gradients(self._rest)
        nn.utils.clip_grad_norm_(self._rest, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._wins.add(cost.wins)
        return {name: part.item() for name, part in cost.parts.items()}

    def _step_tower(self) -> None:
        assert self._shared is not None, "the tower steps after a batch"
        self._shared.backward()
        self._shared = None
        self._peers.average_gradients(self._tower)
        nn.utils.clip_grad_norm_(self._tower, 1.0)
        self._tower_optimizer.step()
        self._tower_optimizer.zero_grad()
        self._wins.settle(self._peers)

    def _seed(self) -> None:
        """Make what torch draws until the next step of the tower a function of the place. Dropout
        differs between processes; weights do not."""
        words = (self._recipe.seed, self._n_done, self._peers.rank)
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1))

    def _set_rates(self) -> None:
        recipe = self._recipe
        share = self._n_done / (self._steps_an_epoch * (recipe.warm_epochs + recipe.epochs))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        factor = min(1.0, (self._n_done + 1) / RATE_WARM_UP_STEPS)
        rate = recipe.learning_rate * factor * (LEAST_RATE + (1 - LEAST_RATE) * cosine)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        for group in self._tower_optimizer.param_groups:
            group["lr"] = rate * recipe.tower_rate

    def _encode_some(self, rows: Tensor) -> ItemStates:
        """Encode items of the catalogue. Some do without their learned vectors this time; always do
        those that nobody has met: nothing but what they are not could be learned."""
        is_dropped = torch.rand(len(rows), device=self.device) < self._recipe.vector_dropout
        is_met = self._has_vector[rows]
        return self._encode(rows, torch.where(is_dropped | ~is_met, NO_VECTOR, rows))

    def _encode(self, rows: Tensor, vector_rows: Tensor) -> ItemStates:
        some = self._tokens.take(rows)
        return self.model.tower.encode(some.tokens, some.lengths, vector_rows)

    # -- what comes out, and what a resumed run needs --------------------------------------------

    def merge(self) -> None:
        """Make the adapters, if any, a part of the LLM's weights. Nothing is trained after it."""
        if self._adapters is not None:
            merge_adapters(self._adapters)

    def encoded(self, progress: OnCount = uncounted) -> ItemStates:
        """Return all items as they are served by the model as it is now."""
        self.model.eval()
        tokens = self._tokens
        with torch.no_grad():
            rows = torch.arange(len(tokens.lengths), device=self.device)
            return self.model.tower.encode(tokens.tokens, tokens.lengths, rows, progress)

    def bundle(self, items: ItemStates | None = None) -> Bundle:
        """Return the model as it is now, with all items encoded as they are served.

        The model itself, not a copy: it is as it is served until the next step.

        Args:
            items: what `encoded` returned since the newest step; None: encoded here.
        """
        self.model.eval()
        items = items or self.encoded()
        embeddings = items.embeddings.float().cpu().numpy()
        return replace(self._start, catalogue=replace(self._start.catalogue, embeddings=embeddings))

    def weights(self) -> dict[str, Tensor]:
        """Return what is trained; what is frozen comes with the start."""
        return {n: w for n, w in self.model.state_dict().items() if n not in self._frozen}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        frozen = {n: w for n, w in self.model.state_dict().items() if n in self._frozen}
        self.model.load_state_dict(frozen | dict(weights))

    def state_dict(self) -> dict[str, object]:
        assert self.is_settled, "gradients towards the tower would be lost"
        return {
            "model": self.weights(),
            "optimizer": self._optimizer.state_dict(),
            "tower_optimizer": self._tower_optimizer.state_dict(),
            "place": (self._place.epoch, self._place.batch),
            "n_done": self._n_done,
            "wins": self._wins.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take up a state, wherever its tensors lie."""
        self.load_weights(state["model"])  # type: ignore[arg-type]
        self._optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self._tower_optimizer.load_state_dict(state["tower_optimizer"])  # type: ignore[arg-type]
        self._place = Place(*state["place"])  # type: ignore[misc]
        self._n_done = int(state["n_done"])  # type: ignore[call-overload]
        self._wins.load_state_dict(state["wins"])  # type: ignore[arg-type]


def _tower_parameters(bundle: Bundle) -> set[str]:
    """Name the parameters that encoding an item uses: all of the tower but the upper layers."""
    config = bundle.config
    n_layers = config.shallow_layers + config.middle_layers + config.deep_layers
    upper = tuple(
        f"tower.llm.llm.layers.{layer}." for layer in range(config.shallow_layers, n_layers)
    )
    return {
        name
        for name, _ in bundle.model.named_parameters()
        if name.startswith("tower.") and not name.startswith((*upper, "tower.llm.llm.norm."))
    }


def _optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
