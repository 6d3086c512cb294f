"""Training, in stages that each take what the one before made.

    1. tokenizer and co-occurrence factors of the catalogue (seconds, no gradient)
    2. coder: the factors from text; codebook: fitted on the coder's embeddings
    3. warm-up: light recommender and item tower on the next item, at every event
    4. all: coarse and refined interests by DMIL and by the served score (encoder/dmil.py)

The catalogue is encoded once for `tower_every` batches: gradients towards its embeddings gather
meanwhile, then the tower takes its own step. Softmaxes are full, over the whole catalogue.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.bundle import Bundle, Catalogue
from encoder.codebook import Codes
from encoder.coder import codebook_of, fit_coder, start_from
from encoder.config import ModelConfig
from encoder.dmil import (
    Assignment,
    assign,
    cluster_targets,
    nce_loss,
    served_loss,
    target_weights,
    weight_loss,
    win_shares,
)
from encoder.grouped_llm import default_llm_config
from encoder.histories import History
from encoder.items import NO_VECTOR, ItemStates, ItemTower
from encoder.model import CatalogueTokens, Recommender
from encoder.neighbours import cooccurrence, item_factors
from encoder.recipe import Recipe
from encoder.samples import NO_ITEM, Batch, Sampling, epoch_batches, n_batches
from encoder.texts import item_tokens, train_tokenizer
from protos.errors import InvalidInput

REACH = 30
"""Events apart within which two items are neighbours."""
WEIGHT_HEAD = 0.1
"""Of the loss of the interest weights: it must not steer the interests."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Said after every step."""

    stage: str
    done: int
    of: int
    losses: Mapping[str, float]


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Texts:
    """The catalogue as given."""

    item_ids: Sequence[str]
    texts: Sequence[str]


def train_bundle(
    texts: Texts,
    histories: Sequence[History],
    config: ModelConfig,
    recipe: Recipe,
    report: Report,
) -> tuple[Bundle, list[float]]:
    """Train a model; return its bundle (without metrics) and the share of targets each query won.

    The same arguments give the same bundle on the same machine.

    Args:
        texts: the catalogue; ids are unique.
        histories: what may be learned from; what is to be predicted later is not in them.
        config: sizes.
        recipe: how.
        report: hears of every step.

    Raises InvalidInput for an empty catalogue or when no user has two events.
    """
    usable = [history for history in histories if len(history) >= 2]
    if not texts.item_ids:
        raise InvalidInput("the catalogue is empty; import items first")
    if len(set(texts.item_ids)) != len(texts.item_ids):
        raise InvalidInput("the catalogue names an item twice; item ids must be unique")
    if not usable:
        raise InvalidInput("no user has two events; there is nothing to learn from")
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    tokenizer = train_tokenizer(texts.texts)
    tokens = CatalogueTokens(
        *map(torch.from_numpy, item_tokens(tokenizer, texts.texts, config.max_item_tokens))
    )
    counts = cooccurrence(usable, len(texts.item_ids), reach=REACH)
    factors = torch.from_numpy(item_factors(counts, config.dim, recipe.seed))
    llm_config = default_llm_config(config, tokenizer.get_vocab_size())
    coder = _fit_coder(config, llm_config, tokens, factors, recipe, rng, report)
    codebook, codes = codebook_of(config, coder, tokens, recipe.seed)
    model = Recommender(config, llm_config, codebook, len(factors))
    model.tower.load_state_dict(coder.state_dict(), strict=False)
    start_from(model.tower, factors)
    trainer = Trainer(model, tokens, codes, recipe, rng)
    trainer.fit(usable, report)
    embeddings = trainer.encode_catalogue().embeddings.numpy()
    catalogue = Catalogue(texts.item_ids, texts.texts, embeddings, codes)
    bundle = Bundle(config, llm_config, model.eval(), codebook, coder, tokenizer, catalogue, {})
    return bundle, trainer.win_shares


def _fit_coder(
    config: ModelConfig,
    llm_config: Mapping[str, object],
    tokens: CatalogueTokens,
    factors: Tensor,
    recipe: Recipe,
    rng: np.random.Generator,
    report: Report,
) -> ItemTower:
    done = 0

    def say(loss: float) -> None:
        nonlocal done
        done += 1
        report(Progress("items", done, recipe.coder_steps, {"1 - cos": loss}))

    return fit_coder(
        config, llm_config, tokens, factors, n_steps=recipe.coder_steps, rng=rng, progress=say
    )


class Trainer:
    """Stages 3 and 4. One use."""

    def __init__(
        self,
        model: Recommender,
        tokens: CatalogueTokens,
        codes: Codes,
        recipe: Recipe,
        rng: np.random.Generator,
    ) -> None:
        self._model, self._tokens, self._codes = model, tokens, codes
        self._config, self._recipe, self._rng = model.config, recipe, rng
        tower_names = _tower_parameters(model)
        self._tower = [p for name, p in model.named_parameters() if name in tower_names]
        self._rest = [p for name, p in model.named_parameters() if name not in tower_names]
        rate = recipe.learning_rate
        self._tower_optimizer = _optimizer(self._tower, rate * recipe.tower_rate, recipe)
        self._optimizer = _optimizer(self._rest, rate, recipe)
        self._wins = torch.zeros(self._config.n_interests)

    @property
    def win_shares(self) -> list[float]:
        """Share of targets that each refined interest won in the last epoch."""
        return [round(share, 4) for share in (self._wins / self._wins.sum().clamp_min(1)).tolist()]

    def fit(self, histories: Sequence[History], report: Report) -> None:
        recipe = self._recipe
        sampling = Sampling(
            recipe.n_windows, recipe.n_samples, recipe.n_targets, recipe.rows_a_batch
        )
        warm_sampling = replace(sampling, n_windows=1, n_samples=1)
        an_epoch = n_batches(histories, self._config, sampling)
        of = an_epoch * (recipe.warm_epochs + recipe.epochs)
        self._model.train()
        done = 0
        shared: Encoded | None = None
        for epoch in range(recipe.warm_epochs + recipe.epochs):
            is_warm = epoch < recipe.warm_epochs
            self._wins.zero_()
            batches = epoch_batches(
                histories,
                self._codes,
                self._config,
                warm_sampling if is_warm else sampling,
                self._rng,
            )
            for batch in batches:
                self._set_rates(done / of, done)
                if shared is None:
                    shared = self._encode()
                losses = self._step(batch, shared, is_warm)
                done += 1
                if done % recipe.tower_every == 0:
                    self._step_tower(shared)
                    shared = None
                first = 0 if is_warm else an_epoch * recipe.warm_epochs
                last = an_epoch * recipe.warm_epochs if is_warm else of
                stage = "warm-up" if is_warm else "all"
                report(Progress(stage, done - first, max(last, done) - first, losses))

    def encode_catalogue(self) -> ItemStates:
        """Encode all items as they are served."""
        self._model.eval()
        every = torch.arange(len(self._tokens.lengths))
        with torch.no_grad():
            return self._model.tower.encode(self._tokens.tokens, self._tokens.lengths, every)

    def _set_rates(self, share: float, done: int) -> None:
        factor = min(1.0, (done + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        rate = self._recipe.learning_rate * factor
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        for group in self._tower_optimizer.param_groups:
            group["lr"] = rate * self._recipe.tower_rate

    def _encode(self) -> "Encoded":
        n_items = len(self._tokens.lengths)
        is_dropped = self._rng.random(n_items) < self._recipe.vector_dropout
        rows = torch.where(torch.from_numpy(is_dropped), NO_VECTOR, torch.arange(n_items))
        states = self._model.tower.encode(self._tokens.tokens, self._tokens.lengths, rows)
        return Encoded(
            states,
            states.kept.detach().requires_grad_(),
            states.embeddings.detach().requires_grad_(),
        )

    def _step(self, batch: Batch, shared: "Encoded", is_warm: bool) -> dict[str, float]:
        loss, losses = self._warm_loss(batch, shared) if is_warm else self._loss(batch, shared)
        loss.backward()
        nn.utils.clip_grad_norm_(self._rest, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return losses

    def _step_tower(self, shared: "Encoded") -> None:
        tensors, gradients = [shared.states.embeddings], [shared.embeddings.grad]
        if shared.kept.grad is not None:
            tensors.append(shared.states.kept)
            gradients.append(shared.kept.grad)
        torch.autograd.backward(tensors, gradients)
        nn.utils.clip_grad_norm_(self._tower, 1.0)
        self._tower_optimizer.step()
        self._tower_optimizer.zero_grad()

    def _next_loss(self, batch: Batch, next_items: Tensor, embeddings: Tensor) -> Tensor:
        has_next = batch.next_rows != NO_ITEM
        scores = (next_items[has_next] / self._config.temperature) @ embeddings.T
        return F.cross_entropy(scores, batch.next_rows[has_next])

    def _warm_loss(self, batch: Batch, shared: "Encoded") -> tuple[Tensor, dict[str, float]]:
        light = self._model.light(batch.rows)
        loss = self._next_loss(batch, light.next_items, shared.embeddings)
        return loss, {"next": loss.item()}

    def _loss(self, batch: Batch, shared: "Encoded") -> tuple[Tensor, dict[str, float]]:
        recipe, model = self._recipe, self._model
        light = model.light(batch.rows)
        shape = (recipe.n_windows, recipe.n_samples)
        coarse = light.coarse.unflatten(1, shape).flatten(0, 1)  # (U * G, P, K, D)
        coarse_weights = light.weight_logits.unflatten(1, shape).flatten(0, 1)
        places = batch.window_rows.clamp_min(0)
        is_item = (batch.window_rows != NO_ITEM).unsqueeze(-1)
        kept, is_kept = shared.kept[places], shared.states.is_kept[places] & is_item
        refined = model.refine(model.tower.llm, kept, is_kept, coarse, batch.window_counts)
        targets = batch.targets[batch.is_sample]  # (B, W)
        losses: dict[str, float] = {}
        total = torch.zeros(())
        if len(targets):
            future = _Future.of(targets, shared.embeddings, self._config, recipe)
            for name, interests, logits in (
                ("coarse", coarse, coarse_weights),
                ("refined", refined.interests, refined.weight_logits),
            ):
                loss, assignment = self._interest_loss(
                    interests[batch.is_sample], logits[batch.is_sample], future, shared.embeddings
                )
                losses[name] = loss.item()
                total = total + loss
            shares = win_shares(assignment, self._config.n_interests)
            self._wins += shares * assignment.is_target.sum()
        following = self._next_loss(batch, light.next_items, shared.embeddings)
        losses["next"] = following.item()
        return total + recipe.next_weight * following, losses

    def _interest_loss(
        self, interests: Tensor, weight_logits: Tensor, future: "_Future", embeddings: Tensor
    ) -> tuple[Tensor, Assignment]:
        recipe = self._recipe
        assignment = assign(interests.detach(), future.embeddings, future.groups)
        scores = (interests / self._config.temperature) @ embeddings.T  # (B, K, N)
        totals = scores.logsumexp(dim=-1)  # (B, K)
        loss = recipe.dmil_weight * nce_loss(
            scores, totals, future.rows, assignment, future.weights
        )
        loss = loss + recipe.served_weight * served_loss(scores, future.rows[:, 0])
        weights = weight_loss(weight_logits, assignment, future.weights)
        return loss + WEIGHT_HEAD * weights, assignment


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoding of the catalogue, shared by several batches; the leaves gather gradients."""

    states: ItemStates
    kept: Tensor  # (N, t, F), leaf
    embeddings: Tensor  # (N, D), leaf


@dataclass(frozen=True, slots=True)
class _Future:
    """The targets of B samples."""

    rows: Tensor  # (B, W)
    embeddings: Tensor  # (B, W, D)
    groups: Tensor  # (B, W)
    weights: Tensor  # (B, W)

    @classmethod
    def of(cls, rows: Tensor, embeddings: Tensor, config: ModelConfig, recipe: Recipe) -> "_Future":
        found = embeddings.detach()[rows.clamp_min(0)]
        groups = cluster_targets(found, rows, config.n_interests)
        return cls(rows, found, groups, target_weights(rows != NO_ITEM, recipe.target_decay))


def _tower_parameters(model: Recommender) -> set[str]:
    """Name the parameters that encoding an item uses: all of the tower but the upper layers."""
    shallow = model.config.shallow_layers
    n_layers = shallow + model.config.middle_layers + model.config.deep_layers
    upper = tuple(f"tower.llm.llm.layers.{layer}." for layer in range(shallow, n_layers))
    return {
        name
        for name, _ in model.named_parameters()
        if name.startswith("tower.") and not name.startswith((*upper, "tower.llm.llm.norm."))
    }


def _optimizer(parameters: list[nn.Parameter], rate: float, recipe: Recipe) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameters, lr=rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
