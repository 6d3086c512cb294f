"""Light recommender: K coarse interests from a history of any length, at the cost of one segment.

HyMiRec's light tower (arXiv 2510.13738) over PerSRec's memory (arXiv 2601.03479). Layers of
encoder/light_blocks.py read decoded codes, actions and time gaps, in rows of one segment each:

    [ blocks of the A segments before ] [ S events | M memory tokens | P * K query tokens ]
      read as keys and values only        what the row computes

    event i    sees the blocks, and events up to i
    memory     sees the blocks, all events, and the memory tokens
    query      sees the blocks, the first `count` events, and the K queries of its own sample

A later segment sees an earlier one only through its M memory tokens, so at each layer a row needs
just their keys and values: a *bank*, filled by rows of the same pass (training, rebuilding) or from
stored blocks (serving).

Events are causal, so those that were computed before need not be again: they come as a `Past`,
between blocks and events.

A query enters as its own learned vector plus the newest event that it sees, and leaves through the
same head as events do; so what events learn of the next item (the warm-up) queries know already.

Rotary positions are local to a segment: events at 1..S, blocks at 0, memory tokens at S + 1,
queries where the newest event stands. A learned vector by the age of a block is added to its keys
when it is read, so a history never outgrows a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder.config import ModelConfig
from encoder.dropout import dropout
from encoder.light_blocks import KINDS, Attended, LightBlock
from encoder.past import KeysValues, Past
from encoder.upload import upload

N_ACTIONS = 256
GAP_UNIT = 2048
N_GAPS = 2**16 // GAP_UNIT + 1
NO_BLOCK = -1


@dataclass(frozen=True, slots=True)
class Rows:
    """R segments, or what is new of them, padded on the right to the longest (S' <= S events)."""

    codes: Tensor  # (R, S', Q) int
    is_coded: Tensor  # (R, S') bool
    actions: Tensor  # (R, S') int
    gaps: Tensor  # (R, S') int, as stored
    lengths: Tensor  # (R,) int: events to compute
    prior: Tensor  # (R, A') int: places in the bank, newest segment first; NO_BLOCK for none
    counts: Tensor  # (R, P) int: events of the segment that each sample sees

    def to(self, device: torch.device) -> "Rows":
        return Rows(*(upload(getattr(self, field.name), device) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class LightOutput:
    coarse: Tensor  # (R, P, K, D), unit length
    weight_logits: Tensor  # (R, P, K)
    next_items: Tensor  # (R, S', D), unit length: a guess of the next item after each event
    memory: Tensor  # (R, layers, 2, M, width), f16: the block of each row, if it is a full segment;
    # M is 0 where memory tokens are left out
    events: Sequence[KeysValues]
    """Of each layer and the S' events, as a `Past` has them."""


class LightRecommender(nn.Module):
    def __init__(self, config: ModelConfig, centres: Tensor, magnitudes: Tensor) -> None:
        """
        Args:
            config: sizes.
            centres: (Q, C, D) of the codebook that histories are coded with.
            magnitudes: (Q, C)
        """
        super().__init__()
        self.config = config
        width = config.light_width
        # The decoder's table is the codebook's own, never trained: (Q * C, D).
        decoded = (centres * magnitudes.unsqueeze(-1)).reshape(-1, config.dim)
        self.register_buffer("decoded", decoded.float(), persistent=False)
        self.register_buffer("turns", _turns(config), persistent=False)
        self.read = nn.Linear(config.dim, width, bias=False)
        # What a code means to this model beyond its place in the codebook; starts at nothing.
        self.codes = nn.Embedding(config.n_levels * config.n_centres, width)
        nn.init.zeros_(self.codes.weight)
        self.uncoded = nn.Parameter(torch.zeros(width))
        self.action = nn.Embedding(N_ACTIONS, width)
        self.gap = nn.Embedding(N_GAPS, width)
        self.memory = nn.Parameter(torch.randn(config.n_memory, width) * 0.1)
        self.queries = nn.Parameter(torch.randn(config.n_interests, width) * 0.05)
        kind = KINDS[config.light_block]
        self.blocks = nn.ModuleList(kind(config) for _ in range(config.light_layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.dim, bias=False)
        self.weigh = nn.Linear(width, 1)
        # Untrained, every output is the newest item: training starts from its neighbours.
        for linear in (self.read, self.out):
            nn.init.eye_(linear.weight)
        for table in (self.action, self.gap):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self,
        rows: Rows,
        bank: Tensor | None = None,
        past: Past | None = None,
        *,
        with_memory: bool = True,
    ) -> LightOutput:
        """Compute rows, which may be segments of one user or of many.

        Args:
            rows: `prior` counts stored blocks first, then the rows of this very call.
            bank: (G, layers, 2, M, width) stored blocks, or None.
            past: events that stand before those of the rows in their segments, or None. The newest
                event that a sample sees is one of the rows'.
            with_memory: False leaves the memory tokens out, for segments that nobody reads yet.
        """
        cfg = self.config
        n_memory = cfg.n_memory if with_memory else 0
        n_rows, n_events = rows.actions.shape
        n_samples = rows.counts.shape[1]
        memory = self.memory[:n_memory].expand(n_rows, -1, -1)  # (R, M, width)
        events = self._events(rows)
        before = torch.zeros_like(rows.lengths) if past is None else past.lengths
        newest = self._newest(events, rows.counts - before.unsqueeze(1))
        queries = (self.queries + newest).flatten(1, 2)
        states = torch.cat([events, memory, queries], dim=1)  # (R, T, width)
        states = dropout(states, cfg.dropout, self.training)
        visible = visible_keys(rows, n_memory, cfg, past)
        attended = Attended(
            visible, rows.prior, self._rotary(rows, before, n_memory), n_events, n_memory
        )
        written = []
        for layer, block in enumerate(self.blocks):
            stored = None if bank is None else bank[:, layer]
            earlier = None if past is None else past.of_layer(layer)
            states, left = cast(LightBlock, block)(states, attended, stored, earlier)
            written.append(left)
        states = self.norm(states)
        read = states[:, n_events + n_memory :].unflatten(1, (n_samples, cfg.n_interests))
        return LightOutput(
            coarse=F.normalize(self.out(read), dim=-1),
            weight_logits=self.weigh(read).squeeze(-1),
            next_items=F.normalize(self.out(states[:, :n_events]), dim=-1),
            # By way of f32, which is exact: autocast on a CPU stacks no f16.
            memory=torch.stack([left.memory.float() for left in written], dim=1).half(),
            events=[left.events for left in written],
        )

    def past_shape(self, n_events: int) -> tuple[int, ...]:
        """Return (layers, 2, H, n, head width), of what n events leave to later ones."""
        cfg = self.config
        return (cfg.light_layers, 2, cfg.light_heads, n_events, cfg.light_width // cfg.light_heads)

    def _events(self, rows: Rows) -> Tensor:
        """Return (R, S', width)."""
        items = torch.where(rows.is_coded.unsqueeze(-1), self.items(rows.codes), self.uncoded)
        gaps = self.gap(rows.gaps.long() // GAP_UNIT)
        return cast(Tensor, items + self.action(rows.actions.long()) + gaps)

    def items(self, codes: Tensor) -> Tensor:
        """Return what codes (R, S', Q) say of items, (R, S', width)."""
        levels = torch.arange(self.config.n_levels, device=codes.device)
        places = codes.long() + levels * self.config.n_centres  # (R, S', Q)
        decoded = cast(Tensor, self.decoded)[places].sum(dim=2)  # (R, S', D)
        read = self.read(decoded) * self.config.dim**0.5  # (R, S', width)
        return cast(Tensor, read + self.codes(places).sum(dim=2))

    def _newest(self, events: Tensor, counts: Tensor) -> Tensor:
        """Return the newest event each sample sees, (R, P, 1, width); zeros before the first."""
        places = (counts - 1).clamp_min(0).unsqueeze(-1).expand(-1, -1, events.shape[-1])
        newest = events.gather(1, places) * (counts > 0).unsqueeze(-1)
        return newest.unsqueeze(2)

    def _rotary(self, rows: Rows, before: Tensor, n_memory: int) -> tuple[Tensor, Tensor]:
        """Return cos and sin of each token's place in its segment, (R, 1, T, head width / 2)."""
        cfg = self.config
        n_rows, n_events = rows.actions.shape
        device = rows.actions.device
        events = before.unsqueeze(1) + torch.arange(1, n_events + 1, device=device)
        events = events.clamp_max(cfg.segment_size)  # padding may stand beyond it
        memory = torch.full((n_rows, n_memory), cfg.segment_size + 1, device=device)
        queries = rows.counts.repeat_interleave(cfg.n_interests, dim=1)
        places = torch.cat([events, memory, queries], dim=1)  # (R, T)
        cos, sin = cast(Tensor, self.turns)[:, places].unsqueeze(2)
        return cos, sin


def _turns(config: ModelConfig) -> Tensor:
    """Return cos and sin of the angles of each place in a segment, (2, S + 2, head width / 2)."""
    half = config.light_width // config.light_heads // 2
    speeds = 10_000.0 ** (-torch.arange(half) / half)
    angles = torch.arange(config.segment_size + 2).unsqueeze(-1) * speeds
    return torch.stack([angles.cos(), angles.sin()])


def visible_keys(
    rows: Rows, n_memory: int, config: ModelConfig, past: Past | None = None
) -> Tensor:
    """Return what each token of a row sees, (R, 1, T, A' * M + n + T) bool: of blocks, of n earlier
    events, and of the row's own tokens. No row of it is empty.

    Args:
        n_memory: memory tokens of the row itself: M or 0.
    """
    n_interests = config.n_interests
    n_rows, n_events = rows.actions.shape
    n_samples = rows.counts.shape[1]
    n_queries = n_samples * n_interests
    device = rows.actions.device
    n_tokens = n_events + n_memory + n_queries
    blocks = (rows.prior != NO_BLOCK).repeat_interleave(config.n_memory, dim=1)  # (R, A' * M)
    place = torch.arange(n_events, device=device)
    before = torch.zeros_like(rows.lengths) if past is None else past.lengths
    # How many of the row's events each token sees.
    reach = torch.cat(
        [
            (place + 1).expand(n_rows, -1),
            rows.lengths.unsqueeze(1).expand(-1, n_memory),
            (rows.counts - before.unsqueeze(1)).repeat_interleave(n_interests, dim=1),
        ],
        dim=1,
    )  # (R, T)
    events = place < reach.unsqueeze(-1)  # (R, T, S')
    kind = torch.cat(
        [
            torch.full((n_events,), -1, device=device),
            torch.full((n_memory,), n_samples, device=device),
            torch.arange(n_samples, device=device).repeat_interleave(n_interests),
        ]
    )
    others = (kind.unsqueeze(1) == kind[n_events:]).expand(n_rows, -1, -1)  # (R, T, M + P * K)
    if past is not None:
        earlier = torch.arange(past.n_tokens, device=device) < before.unsqueeze(1)  # (R, n)
        blocks = torch.cat([blocks, earlier], dim=1)
    old = blocks.unsqueeze(1).expand(-1, n_tokens, -1)  # (R, T, A' * M + n)
    return torch.cat([old, events, others], dim=2).unsqueeze(1)
