"""What a batch costs the model: the next item in the warm-up, then interests as well.

    warm-up   the light recommender guesses the next item after every event, the LLM after every
              item of a window
    all       coarse and refined interests by DMIL and by the served score (encoder/dmil.py),
              and the next items still

Softmaxes go over the whole of a small catalogue, over a corrected draw from a large one
(encoder/candidates.py); items of a batch are places among these candidates. They are encoded once
for several batches (`Encoded`): gradients towards their embeddings gather in leaves, until the
tower takes its own step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder.candidates import Candidates
from encoder.config import ModelConfig
from encoder.dmil import (
    Assignment,
    assign,
    cluster_targets,
    nce_loss,
    served_loss,
    target_weights,
    weight_loss,
    win_counts,
)
from encoder.items import ItemStates
from encoder.light import LightOutput
from encoder.llm import Refined
from encoder.model import Recommender
from encoder.recipe import Recipe
from encoder.samples import NO_ITEM, Batch
from encoder.wins import COARSE, REFINED

WEIGHT_HEAD = 0.1
"""Of the loss of the interest weights: it must not steer the interests."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoding of N candidates, shared by several batches; the leaves gather gradients."""

    log_chance: Tensor  # (N,)
    states: ItemStates
    kept: Tensor  # (N, t, F), leaf
    embeddings: Tensor  # (N, D), leaf

    @classmethod
    def of(cls, states: ItemStates, candidates: Candidates) -> "Encoded":
        return cls(
            candidates.log_chance,
            states,
            states.kept.detach().float().requires_grad_(),
            states.embeddings.detach().float().requires_grad_(),
        )

    def scores(self, guesses: Tensor, temperature: float) -> Tensor:
        """Return what a softmax goes over, (..., N)."""
        return F.linear(guesses / temperature, self.embeddings, -self.log_chance)

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
    wins: Mapping[str, Tensor]
    """Targets that each query won, (K,) int, of COARSE and of REFINED interests (encoder/wins.py);
    of none in the warm-up."""


def sum_of(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


class Objective:
    def __init__(self, model: Recommender, recipe: Recipe) -> None:
        self._model, self._recipe, self._config = model, recipe, model.config

    def warm_up(self, batch: Batch, shared: Encoded) -> Cost:
        light = self._model.light(batch.rows)
        shape = (len(batch.window_rows), 0, self._config.n_interests, self._config.dim)
        nobody = light.coarse.new_zeros(shape)
        refined = None
        if self._recipe.llm_next:
            refined = self._refine(batch, shared, nobody, batch.window_counts[:, :0])
        losses = self._next_losses(batch, light, refined, shared)
        parts = {name: loss.detach() for name, loss in losses.items()}
        return Cost(sum_of(losses), parts, {})

    def interests(self, batch: Batch, shared: Encoded) -> Cost:
        recipe = self._recipe
        light = self._model.light(batch.rows)
        shape = (recipe.n_windows, recipe.n_samples)
        coarse = light.coarse.unflatten(1, shape).flatten(0, 1)  # (U * G, P, K, D)
        coarse_weights = light.weight_logits.unflatten(1, shape).flatten(0, 1)
        refined = self._refine(batch, shared, coarse, batch.window_counts)
        guesses = refined if recipe.llm_next else None
        following = self._next_losses(batch, light, guesses, shared)
        parts = {name: loss.detach() for name, loss in following.items()}
        total = recipe.next_weight * sum_of(following)
        wins = {}
        targets = batch.targets[batch.is_sample]  # (B, W)
        if len(targets):
            future = _Future.of(targets, shared.embeddings, self._config, recipe)
            found = [(COARSE, coarse, coarse_weights)]
            if refined is not None:
                found.append((REFINED, refined.interests, refined.weight_logits))
            for name, interests, logits in found:
                loss, assignment = self._interest_loss(
                    interests[batch.is_sample], logits[batch.is_sample], future, shared
                )
                parts[name] = loss.detach()
                total = total + loss
                wins[name] = win_counts(assignment, self._config.n_interests)
        return Cost(total, parts, wins)

    def _refine(
        self, batch: Batch, shared: Encoded, coarse: Tensor, counts: Tensor
    ) -> Refined | None:
        """Return what the LLM says; None when it takes no part."""
        places = batch.window_rows.clamp_min(0)
        is_item = (batch.window_rows != NO_ITEM).unsqueeze(-1)
        kept, is_kept = shared.kept[places], shared.states.is_kept[places] & is_item
        llm = self._model.tower.llm
        return cast(Refined, self._model.refine(llm, kept, is_kept, coarse, counts))

    def _next_losses(
        self, batch: Batch, light: LightOutput, refined: Refined | None, shared: Encoded
    ) -> dict[str, Tensor]:
        """Return the loss of the next item by who guesses it."""
        losses = {"next": self._next_loss(light.next_items, batch.next_rows, shared)}
        if refined is not None:
            guesses, in_window = refined.next_items[:, :-1], batch.window_rows[:, 1:]
            losses["llm_next"] = self._next_loss(guesses, in_window, shared)
        return losses

    def _next_loss(self, guesses: Tensor, rows: Tensor, shared: Encoded) -> Tensor:
        has_next = rows != NO_ITEM
        if not has_next.any():
            return guesses.sum() * 0.0
        scores = shared.scores(guesses[has_next], self._config.temperature)
        return F.cross_entropy(scores, rows[has_next])

    def _interest_loss(
        self, interests: Tensor, weight_logits: Tensor, future: "_Future", shared: Encoded
    ) -> tuple[Tensor, Assignment]:
        recipe = self._recipe
        assignment = assign(interests.detach(), future.embeddings, future.groups)
        scores = shared.scores(interests, self._config.temperature)  # (B, K, N)
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
