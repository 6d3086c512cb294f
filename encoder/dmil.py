"""DMIL, the loss that gives each interest its own part of the future (HyMiRec, arXiv 2510.13738).

For a sample: the next W items are its targets. They are clustered by cosine into exactly
min(K, distinct targets) groups; Hungarian matching gives each group to one query by the cosine of
query and group centre; each query is trained by NCE with a temperature, over the whole catalogue,
on the targets of its group. Coarse and refined interests are trained alike.

Ours: nearer targets weigh more (`target_weights`), and `served_loss` trains the score that is
served, the largest dot product over the K interests, on the very next item.

Shapes: B samples, W targets, K interests, N items, D embedding.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

N_LLOYD_ROUNDS = 2


def _unrounded(device: torch.device) -> torch.autocast:
    """Cosines are compared with one another; rounded to bf16, those of near items tie."""
    return torch.autocast(device.type, enabled=False)


@dataclass(frozen=True, slots=True)
class Assignment:
    queries: Tensor  # (B, W) int: the query that each target trains; 0 where there is no target
    is_target: Tensor  # (B, W) bool


def cluster_targets(embeddings: Tensor, item_rows: Tensor, n_groups: int) -> Tensor:
    """Put each sample's targets into groups by cosine, exactly min(n_groups, distinct targets).

    Seeds by farthest-first traversal, then rounds of spherical k-means in which a seed never leaves
    its group: so no group runs empty.

    Args:
        embeddings: (B, W, D), unit length.
        item_rows: (B, W) int, -1 where there is no target; the first is one wherever any is.

    Returns:
        (B, W) int, -1 where there is no target.
    """
    with _unrounded(embeddings.device):
        return _clustered(embeddings.float(), item_rows, n_groups)


def _clustered(embeddings: Tensor, item_rows: Tensor, n_groups: int) -> Tensor:
    is_target = item_rows >= 0
    every = torch.arange(len(item_rows), device=item_rows.device)
    sims = embeddings @ embeddings.transpose(1, 2)  # (B, W, W)
    same = item_rows.unsqueeze(1) == item_rows.unsqueeze(2)  # (B, W, W)
    seeds = torch.zeros((len(item_rows), n_groups), dtype=torch.long, device=item_rows.device)
    is_seeded = same[:, 0] | ~is_target  # targets equal to a seed, or no targets
    pinned = torch.where(same[:, 0] & is_target, 0, -1)  # (B, W)
    nearest = sims[:, 0]
    has_seed = torch.zeros_like(seeds, dtype=torch.bool)
    has_seed[:, 0] = is_target[:, 0]
    for group in range(1, n_groups):
        seed = nearest.masked_fill(is_seeded, torch.inf).argmin(dim=1)  # (B,)
        is_new = ~is_seeded[every, seed]
        seeds[:, group], has_seed[:, group] = seed, is_new
        equal = same[every, seed] & is_new.unsqueeze(1) & is_target
        pinned = torch.where(equal, group, pinned)
        is_seeded = is_seeded | equal
        nearest = torch.maximum(nearest, sims[every, seed])
    centres = embeddings.gather(1, seeds.unsqueeze(-1).expand(-1, -1, embeddings.shape[-1]))
    for _ in range(N_LLOYD_ROUNDS):
        groups = _nearest_group(embeddings, centres, has_seed, pinned)
        centres = group_centres(embeddings, groups.masked_fill(~is_target, -1), n_groups)
    groups = _nearest_group(embeddings, centres, has_seed, pinned)
    return groups.masked_fill(~is_target, -1)


def _nearest_group(embeddings: Tensor, centres: Tensor, has_seed: Tensor, pinned: Tensor) -> Tensor:
    sims = embeddings @ centres.transpose(1, 2)  # (B, W, G)
    nearest = sims.masked_fill(~has_seed.unsqueeze(1), -torch.inf).argmax(dim=2)
    return torch.where(pinned >= 0, pinned, nearest)


def group_centres(embeddings: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """Return the unit mean of each group, (B, G, D); zeros for an empty one."""
    member = F.one_hot(groups.clamp_min(0), n_groups).to(embeddings.dtype)  # (B, W, G)
    member = member * (groups >= 0).unsqueeze(-1)
    return F.normalize(member.transpose(1, 2) @ embeddings, dim=-1)


def assign(interests: Tensor, embeddings: Tensor, groups: Tensor) -> Assignment:
    """Match groups to queries one to one, by the greatest sum of cosines.

    Args:
        interests: (B, K, D), unit length.
        embeddings: (B, W, D) of the targets.
        groups: (B, W) int from `cluster_targets` with n_groups = K.
    """
    n_interests = interests.shape[1]
    with _unrounded(groups.device):
        centres = group_centres(embeddings.float(), groups, n_interests)  # (B, K, D), 0 where empty
        sims = centres @ interests.float().transpose(1, 2)  # (B, group, query)
    matched = [linear_sum_assignment(sim, maximize=True)[1] for sim in sims.cpu().numpy()]
    queries = torch.from_numpy(np.array(matched, dtype=np.int64)).view(-1, n_interests)
    queries = queries.to(groups.device)  # (B, K): query of each group
    is_target = groups >= 0
    return Assignment(queries.gather(1, groups.clamp_min(0)) * is_target, is_target)


def target_weights(is_target: Tensor, decay: float) -> Tensor:
    """Return (B, W) weights that sum to 1 a sample: `decay` to the power of the distance."""
    powers = decay ** torch.arange(is_target.shape[1], device=is_target.device)
    weights = powers * is_target
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)


def nce_loss(
    scores: Tensor, log_totals: Tensor, item_rows: Tensor, assignment: Assignment, weights: Tensor
) -> Tensor:
    """Return the mean over samples of the weighted NCE of targets under their queries.

    Args:
        scores: (B, K, N), dot products over the temperature.
        log_totals: (B, K), logsumexp of `scores` over the catalogue.
        item_rows: (B, W) int, -1 where there is no target.
        assignment: which query each target trains.
        weights: (B, W) from `target_weights`.
    """
    every = torch.arange(len(scores), device=scores.device).unsqueeze(1)
    hits = scores[every, assignment.queries, item_rows.clamp_min(0)]  # (B, W)
    losses = log_totals.gather(1, assignment.queries) - hits
    return (losses * weights).sum(dim=1).mean()


def served_loss(scores: Tensor, item_rows: Tensor) -> Tensor:
    """Return the full-softmax loss of the served score, max over K, on the next item.

    Args:
        scores: (B, K, N), dot products over the temperature.
        item_rows: (B,) int.
    """
    return F.cross_entropy(scores.amax(dim=1), item_rows)


def weight_loss(weight_logits: Tensor, assignment: Assignment, weights: Tensor) -> Tensor:
    """Train the head of interest weights on the share of the targets that each query got."""
    n_interests = weight_logits.shape[1]
    shares = F.one_hot(assignment.queries, n_interests).to(weights.dtype) * weights.unsqueeze(-1)
    return F.cross_entropy(weight_logits, shares.sum(dim=1))


def win_counts(assignment: Assignment, n_interests: int) -> Tensor:
    """Return (K,) int, the targets that each query won."""
    return F.one_hot(assignment.queries[assignment.is_target], n_interests).sum(dim=0)
