"""LLM recommender: the recent items as text, K coarse interests, K queries -> K refined interests.

HyMiRec's second tower (arXiv 2510.13738) with HatLLM's masks (arXiv 2510.10955). A row is

    [ n items, t tokens each ] [ P samples: K coarse interests, K queries ]

The items' tokens come out of the shallow group (encoder/items.py), from a cache or not. A coarse
interest and a query are items of one token each. Recent items stand first and all is causal, so
appending an item leaves earlier keys and values as they were. Serving has one sample a row;
training has several, each after a count of items of its own and invisible to the others. Items that
were computed before stand before the row as a `Past`.

A query enters as its own learned vector plus the newest item's state, and leaves through the head
that guesses the item after each item; so what the items learn of the next one (the warm-up) queries
know already. Its output moves its coarse interest: refined = unit(coarse + change).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.config import ModelConfig
from encoder.dropout import dropout
from encoder.grouped_llm import GroupedLlm
from encoder.past import KeysValues, Past


@dataclass(frozen=True, slots=True)
class Refined:
    interests: Tensor  # (R, P, K, D), unit length
    weight_logits: Tensor  # (R, P, K)
    next_items: Tensor  # (R, n, D), unit length: a guess of the item after each item
    items: Sequence[KeysValues]
    """Of each upper layer and the n * t tokens, as a `Past` has them."""


@dataclass(frozen=True, slots=True)
class PastItems:
    """Items that stand before those of R rows, computed before."""

    past: Past
    """`lengths` counts items, `states` has t tokens of each."""
    is_kept: Tensor  # (R, n, t) bool, False beyond a row's items


class LlmRecommender(nn.Module):
    """What stands around the LLM; its layers belong to the item tower and come as an argument."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.coarse_in = nn.Linear(config.dim, width, bias=False)
        self.queries = nn.Parameter(torch.randn(config.n_interests, width) * 0.1)
        self.out = nn.Linear(width, config.dim, bias=False)
        self.weigh = nn.Linear(width, 1)
        # Untrained, a guess is the newest item, and a change is about as long as an interest.
        nn.init.eye_(self.out.weight)
        with torch.no_grad():
            self.out.weight *= width**-0.5

    def forward(
        self,
        llm: GroupedLlm,
        kept: Tensor,
        is_kept: Tensor,
        coarse: Tensor,
        counts: Tensor,
        before: PastItems | None = None,
    ) -> Refined:
        """Refine the interests of R rows.

        Args:
            llm: the LLM in groups.
            kept: (R, n, t, F) shallow states of the items, oldest first, padded on the right.
            is_kept: (R, n, t) bool.
            coarse: (R, P, K, D); P may be 0, then only the next items are guessed.
            counts: (R, P) int, items that each sample sees, those before the row among them.
            before: or None. The newest item that a sample sees is one of the row's.
        """
        n_items, n_kept = kept.shape[1:3]
        n_samples, n_interests = coarse.shape[1:3]
        states = self._row(llm, kept, is_kept, coarse, counts, before)
        states = dropout(states, self.config.dropout, self.training)
        layout = row_layout(is_kept, counts, n_interests, before)
        past = None if before is None else before.past
        states, written = llm.across(states, layout.positions, layout.middle, layout.deep, past)
        states = dropout(states, self.config.dropout, self.training)
        head = n_items * n_kept
        read = states[:, head:].unflatten(1, (n_samples, 2, n_interests))[:, :, 1]  # (R, P, K, F)
        return Refined(
            interests=F.normalize(coarse + self.out(read), dim=-1),
            weight_logits=self.weigh(read).squeeze(-1),
            next_items=F.normalize(self.out(states[:, n_kept - 1 : head : n_kept]), dim=-1),
            items=[(keys[:, :, :head], values[:, :, :head]) for keys, values in written],
        )

    def _row(
        self,
        llm: GroupedLlm,
        kept: Tensor,
        is_kept: Tensor,
        coarse: Tensor,
        counts: Tensor,
        before: PastItems | None,
    ) -> Tensor:
        """Return the shallow states of a row, (R, T, F); arguments as `forward` has them."""
        states = kept.flatten(1, 2)
        if not coarse.shape[1]:
            return states
        own = counts if before is None else counts - before.past.lengths.unsqueeze(1)
        tail = self.tail(coarse)
        tail = llm.shallow(tail.reshape(-1, 1, llm.width)).view(*tail.shape)
        return torch.cat([states, with_newest(tail, kept, own)], dim=1)

    def tail(self, coarse: Tensor) -> Tensor:
        """Return what stands behind the items, before the shallow layers, (R, P, 2, K, F)."""
        coarse_in = self.coarse_in(coarse) * self.config.dim**0.5  # (R, P, K, F)
        return torch.stack([coarse_in, self.queries.expand_as(coarse_in)], dim=2)


def with_newest(tail: Tensor, kept: Tensor, counts: Tensor) -> Tensor:
    """Add to queries the newest item that they see; return the tail (R, P, 2, K, F) as tokens of a
    row, (R, P * 2K, F)."""
    alone, queries = tail.unbind(2)
    return torch.stack([alone, queries + _newest(kept, counts)], dim=2).flatten(1, 3)


def _newest(kept: Tensor, counts: Tensor) -> Tensor:
    """Return the last token of the newest item each sample sees, (R, P, 1, F); zeros for none."""
    places = (counts - 1).clamp_min(0).unsqueeze(-1).expand(-1, -1, kept.shape[-1])
    newest = kept[:, :, -1].gather(1, places) * (counts > 0).unsqueeze(-1)
    return newest.unsqueeze(2)


@dataclass(frozen=True, slots=True)
class Layout:
    positions: Tensor  # (R, T) int
    middle: Tensor  # (R, T, n' * t + T) bool: plain causal; n' items stand before the row
    deep: Tensor  # (R, T, n' * t + T) bool: causal, only across items; a token keeps itself


def row_layout(
    is_kept: Tensor, counts: Tensor, n_interests: int, before: PastItems | None = None
) -> Layout:
    """Return positions and masks of rows of n items (t tokens each) and P samples (2K tokens each).

    Args:
        is_kept: (R, n, t) bool; False tokens are seen by nobody but themselves.
        counts: (R, P) int, items that each sample sees, those before the row among them.
        n_interests: K
        before: items that stand before the row, or None.
    """
    n_rows, n_items, n_kept = is_kept.shape
    n_samples, n_tail = counts.shape[1], 2 * n_interests
    device = is_kept.device
    n_head = n_items * n_kept
    n_before = counts.new_zeros(n_rows) if before is None else before.past.lengths  # (R,)
    own_counts = counts - n_before.unsqueeze(1)
    item = torch.cat(
        [
            torch.arange(n_items, device=device).repeat_interleave(n_kept),
            n_items + torch.arange(n_samples * n_tail, device=device),
        ]
    )  # (T,): the item that a token belongs to
    sample = torch.cat(
        [
            torch.full((n_head,), -1, device=device),
            torch.arange(n_samples, device=device).repeat_interleave(n_tail),
        ]
    )  # (T,)
    order = torch.arange(len(item), device=device)
    causal = order.unsqueeze(0) <= order.unsqueeze(1)  # (T, T)
    # Items that a token may see: all before it for an item, `counts` for a sample.
    reach = torch.cat(
        [
            (item[:n_head] + 1).expand(n_rows, -1),
            own_counts.repeat_interleave(n_tail, dim=1),
        ],
        dim=1,
    )  # (R, T)
    is_shown = is_kept.flatten(1).unsqueeze(1)  # (R, 1, n * t)
    on_items = (item[:n_head] < reach.unsqueeze(-1)) & is_shown & causal[:, :n_head]
    on_tail = (sample.unsqueeze(1) == sample[n_head:]) & causal[:, n_head:]
    middle = torch.cat([on_items, on_tail.expand(n_rows, -1, -1)], dim=2)  # (R, T, T)
    itself = torch.eye(len(item), dtype=torch.bool, device=device)
    middle = middle | itself
    same_item = item.unsqueeze(0) == item.unsqueeze(1)
    deep = middle if n_kept == 1 else middle & (~same_item | itself)
    step = torch.arange(n_tail, device=device).repeat(n_samples)
    tail_places = (counts * n_kept).repeat_interleave(n_tail, dim=1) + step
    head_places = (n_before * n_kept).unsqueeze(1) + order[:n_head]
    places = torch.cat([head_places, tail_places], dim=1)
    if before is None:
        return Layout(places, middle, deep)
    earlier = before.is_kept.flatten(1).unsqueeze(1).expand(-1, len(item), -1)
    is_same = deep is middle
    middle = torch.cat([earlier, middle], dim=2)
    return Layout(places, middle, middle if is_same else torch.cat([earlier, deep], dim=2))
