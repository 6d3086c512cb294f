"""What a batch costs the model: the next item in the warm-up, then interests as well.

    warm-up   the light recommender guesses the next item after every event
    all       coarse and refined interests by DMIL and by the served score (encoder/dmil.py),
              and the next item still

Softmaxes are full, over the whole catalogue. The catalogue is encoded once for several batches
(`Encoded`): gradients towards its embeddings gather in leaves, until the tower takes its own step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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
from encoder.items import ItemStates
from encoder.model import Recommender
from encoder.recipe import Recipe
from encoder.samples import NO_ITEM, Batch

WEIGHT_HEAD = 0.1
"""Of the loss of the interest weights: it must not steer the interests."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoding of the catalogue, shared by several batches; the leaves gather gradients."""

    states: ItemStates
    kept: Tensor  # (N, t, F), leaf
    embeddings: Tensor  # (N, D), leaf

    @classmethod
    def of(cls, states: ItemStates) -> "Encoded":
        return cls(
            states,
            states.kept.detach().float().requires_grad_(),
            states.embeddings.detach().float().requires_grad_(),
        )

    def backward(self) -> None:
        """Take the gathered gradients through the tower."""
        pairs = [(self.states.embeddings, self.embeddings.grad), (self.states.kept, self.kept.grad)]
        found = [(one, gradient.to(one.dtype)) for one, gradient in pairs if gradient is not None]
        torch.autograd.backward([one for one, _ in found], [gradient for _, gradient in found])


@dataclass(frozen=True, slots=True)
class Cost:
    loss: Tensor
    parts: Mapping[str, Tensor]
    """By name, for people; without gradients."""
    wins: Tensor  # (K,) targets that each refined interest won


class Objective:
    def __init__(self, model: Recommender, recipe: Recipe) -> None:
        self._model, self._recipe, self._config = model, recipe, model.config

    def warm_up(self, batch: Batch, shared: Encoded) -> Cost:
        light = self._model.light(batch.rows)
        loss = self._next_loss(batch, light.next_items, shared.embeddings)
        return Cost(loss, {"next": loss.detach()}, torch.zeros(self._config.n_interests))

    def interests(self, batch: Batch, shared: Encoded) -> Cost:
        recipe, model = self._recipe, self._model
        light = model.light(batch.rows)
        shape = (recipe.n_windows, recipe.n_samples)
        coarse = light.coarse.unflatten(1, shape).flatten(0, 1)  # (U * G, P, K, D)
        coarse_weights = light.weight_logits.unflatten(1, shape).flatten(0, 1)
        places = batch.window_rows.clamp_min(0)
        is_item = (batch.window_rows != NO_ITEM).unsqueeze(-1)
        kept, is_kept = shared.kept[places], shared.states.is_kept[places] & is_item
        refined = model.refine(model.tower.llm, kept, is_kept, coarse, batch.window_counts)
        following = self._next_loss(batch, light.next_items, shared.embeddings)
        parts = {"next": following.detach()}
        total = recipe.next_weight * following
        wins = torch.zeros(self._config.n_interests)
        targets = batch.targets[batch.is_sample]  # (B, W)
        if len(targets):
            future = _Future.of(targets, shared.embeddings, self._config, recipe)
            for name, interests, logits in (
                ("coarse", coarse, coarse_weights),
                ("refined", refined.interests, refined.weight_logits),
            ):
                loss, assignment = self._interest_loss(
                    interests[batch.is_sample], logits[batch.is_sample], future, shared.embeddings
                )
                parts[name] = loss.detach()
                total = total + loss
            shares = win_shares(assignment, self._config.n_interests)
            wins = (shares * assignment.is_target.sum()).cpu()
        return Cost(total, parts, wins)

    def _next_loss(self, batch: Batch, next_items: Tensor, embeddings: Tensor) -> Tensor:
        has_next = batch.next_rows != NO_ITEM
        scores = (next_items[has_next] / self._config.temperature) @ embeddings.T
        return F.cross_entropy(scores, batch.next_rows[has_next])

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
