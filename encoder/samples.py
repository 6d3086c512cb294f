"""Training batches: whole histories as segments, and windows of counts in which samples stand.

A *count* is how many events a sample has seen; its targets are the next W items. Each segment gives
G windows of R/2 counts (the counts that share one window of recent items, so one row of the LLM
serves them all), and each window P counts. Long histories give no more samples an epoch than they
have segments: the evaluation is over users, not over events.

Shapes: U rows of segments, G windows a row, P samples a window, n items of a window, W targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from encoder.codebook import Codes
from encoder.config import ModelConfig
from encoder.histories import History, Ints
from encoder.light import NO_BLOCK, Rows

NO_ITEM = -1


@dataclass(frozen=True, slots=True)
class Batch:
    rows: Rows  # counts: (U, G * P) within the segment
    next_rows: Tensor  # (U, S') int: the item after each event, NO_ITEM at the end
    window_rows: Tensor  # (U * G, n) int: items of the window, NO_ITEM where padded
    window_counts: Tensor  # (U * G, P) int: items of the window that each sample sees
    targets: Tensor  # (U * G, P, W) int, NO_ITEM beyond the history
    is_sample: Tensor  # (U * G, P) bool

    @property
    def n_events(self) -> int:
        return int(self.rows.lengths.sum())

    def items(self) -> Tensor:
        """Return the rows of all items in it, each once. No target is an item of none else."""
        found = torch.cat([self.next_rows.flatten(), self.window_rows.flatten()])
        return cast(Tensor, torch.unique(found[found != NO_ITEM]))

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.rows.to(device),
            self.next_rows.to(device),
            self.window_rows.to(device),
            self.window_counts.to(device),
            self.targets.to(device),
            self.is_sample.to(device),
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    n_windows: int = 2  # G
    n_samples: int = 8  # P
    n_targets: int = 8  # W
    rows_a_batch: int = 32


Plan = Sequence[Sequence[int]]
"""Batches as places of histories."""


def plan_epoch(
    lengths: Ints, config: ModelConfig, sampling: Sampling, rng: np.random.Generator
) -> Plan:
    """Return batches that visit each history once, in random order, neighbours alike in length."""
    jitter = rng.uniform(0.8, 1.25, len(lengths))
    order = np.argsort(lengths * jitter)
    batches: list[list[int]] = [[]]
    n_rows = 0
    for user in order:
        rows = -(-lengths[user] // config.segment_size)
        if batches[-1] and n_rows + rows > sampling.rows_a_batch:
            batches.append([])
            n_rows = 0
        batches[-1].append(int(user))
        n_rows += rows
    return [batches[place] for place in rng.permutation(len(batches))]


def make_batch(
    histories: Sequence[History],
    codes: Codes,
    config: ModelConfig,
    sampling: Sampling,
    rng: np.random.Generator,
) -> Batch:
    """Return the segments of these histories, and samples in them.

    Args:
        histories: at least two events each.
        codes: (N, Q) of the catalogue.
        config: sizes.
        sampling: how many samples.
        rng: a generator for this batch alone makes it the same however one came to it.
    """
    return _batch([shuffle_ties(h, rng) for h in histories], codes, config, sampling, rng)


def shuffle_ties(history: History, rng: np.random.Generator) -> History:
    """Put events of one moment into random order: theirs is the file's, and means nothing."""
    order = np.lexsort((rng.random(len(history)), history.times_ms))
    return History(
        history.user_id,
        history.item_rows[order],
        history.actions[order],
        history.gaps,  # the gap before a moment stays with its first event
        history.times_ms,
    )


def n_batches(lengths: Ints, config: ModelConfig, sampling: Sampling) -> int:
    """Return about how many batches an epoch has, for schedules."""
    rows = int((-(-lengths // config.segment_size)).sum())
    return max(1, -(-rows // sampling.rows_a_batch))


def _batch(
    histories: Sequence[History],
    codes: Codes,
    config: ModelConfig,
    sampling: Sampling,
    rng: np.random.Generator,
) -> Batch:
    size, half = config.segment_size, config.recent_size // 2
    placed = [(h, s) for h in histories for s in range(-(-len(h) // size))]
    n_rows, n_windows, n_samples = len(placed), sampling.n_windows, sampling.n_samples
    longest = max(min(size, len(h) - s * size) for h, s in placed)
    n_prior = min(config.n_blocks, max(s for _, s in placed))
    items = np.full((n_rows, longest), NO_ITEM)
    following = np.full((n_rows, longest), NO_ITEM)
    actions = np.zeros((n_rows, longest), np.uint8)
    gaps = np.zeros((n_rows, longest), np.int64)
    prior = np.full((n_rows, n_prior), NO_BLOCK)
    counts = np.zeros((n_rows, n_windows, n_samples), np.int64)
    windows = np.full((n_rows, n_windows, config.recent_size - 1), NO_ITEM)
    shown = np.ones((n_rows, n_windows, n_samples), np.int64)
    targets = np.full((n_rows, n_windows, n_samples, sampling.n_targets), NO_ITEM)
    is_sample = np.zeros((n_rows, n_windows, n_samples), bool)
    for row, (history, segment) in enumerate(placed):
        begin, end = segment * size, min(len(history), (segment + 1) * size)
        n = end - begin
        items[row, :n] = history.item_rows[begin:end]
        after = history.item_rows[begin + 1 : end + 1]
        following[row, : len(after)] = after
        actions[row, :n] = history.actions[begin:end]
        gaps[row, :n] = history.gaps[begin:end]
        ages = np.arange(min(n_prior, segment))
        prior[row, : len(ages)] = row - 1 - ages
        first, last = max(1, begin), min(end, len(history) - 1)  # counts with a target
        if first > last:
            continue
        choices = np.arange(first // half, min(last, end - 1) // half + 1)
        for slot, window in enumerate(rng.permutation(choices)[:n_windows]):
            low, high = max(first, window * half), min(last, (window + 1) * half - 1, end - 1)
            picked = rng.permutation(np.arange(low, high + 1))[:n_samples]
            start = config.window_start(int(low))
            recent = history.item_rows[start : start + config.recent_size - 1]
            windows[row, slot, : len(recent)] = recent
            for sample, count in enumerate(picked):
                counts[row, slot, sample] = count - begin
                shown[row, slot, sample] = count - start
                future = history.item_rows[count : count + sampling.n_targets]
                targets[row, slot, sample, : len(future)] = future
                is_sample[row, slot, sample] = True
    lengths = np.array([min(size, len(h) - s * size) for h, s in placed])
    rows = Rows(
        codes=torch.from_numpy(codes[np.maximum(items, 0)]),
        is_coded=torch.from_numpy(items != NO_ITEM),
        actions=torch.from_numpy(actions),
        gaps=torch.from_numpy(gaps),
        lengths=torch.from_numpy(lengths),
        prior=torch.from_numpy(prior),
        counts=torch.from_numpy(counts.reshape(n_rows, -1)),
    )
    return Batch(
        rows=rows,
        next_rows=torch.from_numpy(following),
        window_rows=torch.from_numpy(windows.reshape(n_rows * n_windows, -1)),
        window_counts=torch.from_numpy(shown.reshape(-1, n_samples)),
        targets=torch.from_numpy(targets.reshape(-1, n_samples, sampling.n_targets)),
        is_sample=torch.from_numpy(is_sample.reshape(-1, n_samples)),
    )
