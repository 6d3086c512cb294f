"""What survives a full collection is not looked at again, but for once an hour."""

import gc

import pytest

from infra.garbage import FREEZE_EVERY_S, THAW_EVERY_S, freeze_survivors
from tests.clock import Clock


class Cycle:
    """Garbage that only a collection finds."""

    n_freed = 0

    def __init__(self):
        self.itself = self

    def __del__(self):
        Cycle.n_freed += 1


@pytest.fixture
def clock():
    clock = Clock()
    end = freeze_survivors(clock=clock)
    yield clock
    end()
    gc.unfreeze()
    gc.collect()


def made():
    """Return what becomes garbage once it is let go, and how much of its kind was freed so far."""
    return Cycle(), Cycle.n_freed


def test_what_survives_is_frozen_and_what_comes_later_is_still_collected(clock):
    kept, n_freed = made()
    gc.collect()
    assert gc.get_freeze_count() > 0

    del kept  # frozen: nobody looks
    young, _ = made()
    del young
    gc.collect()

    assert Cycle.n_freed == n_freed + 1


def test_after_an_hour_cycles_among_what_was_frozen_are_found(clock):
    kept, n_freed = made()
    gc.collect()
    del kept

    clock.now_s = THAW_EVERY_S - 1
    gc.collect()
    assert Cycle.n_freed == n_freed

    clock.now_s = THAW_EVERY_S
    gc.collect()
    assert Cycle.n_freed == n_freed + 1


def test_what_is_under_way_is_frozen_every_ten_seconds_at_most(clock):
    gc.collect()
    n_frozen = gc.get_freeze_count()
    kept = [[] for _ in range(1000)]

    clock.now_s = FREEZE_EVERY_S - 1
    gc.collect()
    assert gc.get_freeze_count() < n_frozen + len(kept)

    clock.now_s = FREEZE_EVERY_S
    gc.collect()
    assert gc.get_freeze_count() >= n_frozen + len(kept)


def test_once_ended_nothing_is_frozen():
    freeze_survivors()()
    n_frozen = gc.get_freeze_count()

    gc.collect()

    assert gc.get_freeze_count() == n_frozen
