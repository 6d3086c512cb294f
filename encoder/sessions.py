"""A list of events without stored state, as the history that it would have become."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.caches import KnownItem
from encoder.config import ModelConfig
from encoder.items import ItemState
from encoder.plan import UserInput
from protos.history import quantise_gap
from protos.segments import Columns


@dataclass(frozen=True, slots=True)
class SessionStep:
    item: KnownItem | None
    """None: nobody knows the item; its codes are missing and the window leaves it out."""
    action: int
    event_time_ms: int


def session_input(
    steps: Sequence[SessionStep], config: ModelConfig, *, codebook: int, refine: bool
) -> UserInput:
    """Cut segments and window as the stream does for a user with these events, oldest first."""
    segments = []
    size = config.segment_size
    gaps = _gaps(steps)
    for begin in range(0, len(steps) + 1, size):
        part = slice(begin, begin + size)
        segments.append(_columns(steps[part], gaps[part], config.n_levels, codebook))
    window: list[ItemState] = []
    if refine:
        recent = steps[config.window_start(len(steps)) :]
        window = [step.item.state for step in recent if step.item is not None]
    return UserInput(segments[:-1], segments[-1], window, refine)


def _gaps(steps: Sequence[SessionStep]) -> list[int]:
    """Time since the newest event so far, as the fold has it."""
    gaps: list[int] = []
    newest = steps[0].event_time_ms if steps else 0
    for step in steps:
        gaps.append(quantise_gap(step.event_time_ms - newest))
        newest = max(newest, step.event_time_ms)
    return gaps


def _columns(
    steps: Sequence[SessionStep], gaps: Sequence[int], n_levels: int, codebook: int
) -> Columns:
    codes = np.zeros((len(steps), n_levels), np.uint8)
    for place, step in enumerate(steps):
        if step.item is not None:
            codes[place] = np.frombuffer(step.item.codes, np.uint8)
    return Columns(
        hashes=np.zeros(len(steps), np.uint32),  # the model reads none
        actions=np.array([step.action for step in steps], np.uint8),
        gaps=np.array(gaps, np.uint16),
        codes=codes,
        coded=np.array([step.item is not None for step in steps], bool),
        codebook_version=codebook,
    )
