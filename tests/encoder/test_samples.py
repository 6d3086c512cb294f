import numpy as np
import pytest

from encoder.histories import History
from encoder.light import NO_BLOCK
from encoder.samples import NO_ITEM, Sampling, make_batch, plan_epoch, shuffle_ties
from tests.encoder.tiny import CONFIG

SAMPLING = Sampling(n_windows=2, n_samples=3, n_targets=4, rows_a_batch=4)
CODES = np.arange(200 * CONFIG.n_levels).reshape(200, -1).astype(np.uint8) % CONFIG.n_centres


def history(n_events, first=0):
    """Items in a row, so that an item says where it stood."""
    rows = np.arange(first, first + n_events)
    actions = np.ones(n_events, np.uint8)
    return History("u", rows, actions, np.zeros(n_events, np.uint16), np.arange(n_events) * 1000)


@pytest.mark.parametrize("n_events", [2, 8, 9, 17, 40])
def test_samples_see_the_past_and_their_targets_are_the_future(n_events):
    rng = np.random.default_rng(0)
    batch = make_batch([history(n_events)], CODES, CONFIG, SAMPLING, rng)
    n_rows = len(batch.rows.lengths)
    counts = batch.rows.counts.view(n_rows * SAMPLING.n_windows, -1)

    n_samples = 0
    for window in range(len(counts)):
        segment = window // SAMPLING.n_windows
        for sample in range(SAMPLING.n_samples):
            if not batch.is_sample[window, sample]:
                continue
            n_samples += 1
            count = segment * CONFIG.segment_size + int(counts[window, sample])
            future = [row for row in batch.targets[window, sample].tolist() if row != NO_ITEM]
            assert future == list(range(count, min(n_events, count + SAMPLING.n_targets)))
            shown = batch.window_rows[window, : batch.window_counts[window, sample]].tolist()
            assert shown == list(range(CONFIG.window_start(count), count))
    assert n_samples > 0


def test_rows_know_the_segments_before_them():
    rng = np.random.default_rng(0)
    batch = make_batch([history(8 * 5)], CODES, CONFIG, SAMPLING, rng)

    assert batch.rows.lengths.tolist() == [8] * 5
    assert batch.rows.prior.tolist()[0] == [NO_BLOCK] * 3
    assert batch.rows.prior.tolist()[4] == [3, 2, 1]


def test_every_history_is_visited_once_an_epoch():
    lengths = [3, 5, 9, 30, 12, 4]

    plan = plan_epoch(lengths, CONFIG, SAMPLING, np.random.default_rng(1))

    assert sorted(user for batch in plan for user in batch) == list(range(6))
    rows = [sum(-(-lengths[user] // CONFIG.segment_size) for user in batch) for batch in plan]
    assert all(n <= SAMPLING.rows_a_batch for n in rows)


def test_only_events_of_one_moment_change_places():
    tied = History(
        "u",
        np.array([1, 2, 3, 4]),
        np.array([1, 2, 3, 4], np.uint8),
        np.array([0, 0, 0, 9], np.uint16),
        np.array([5, 5, 5, 6]),
    )

    orders = {
        tuple(shuffle_ties(tied, np.random.default_rng(seed)).item_rows) for seed in range(50)
    }

    assert len(orders) == 6
    assert {order[3] for order in orders} == {4}
