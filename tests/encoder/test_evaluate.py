import math

import numpy as np
import pytest

from encoder.baselines import CoOccurrence, Popularity
from encoder.evaluate import Served, evaluate_scores, leave_one_out, metrics_of
from encoder.histories import History
from encoder.neighbours import cooccurrence, item_factors
from protos.errors import InvalidInput
from tests.encoder.tiny import N_ITEMS


def history(*rows):
    n = len(rows)
    return History(
        "u",
        np.array(rows),
        np.ones(n, np.uint8),
        np.zeros(n, np.uint16),
        np.arange(n, dtype=np.int64),
    )


def test_metrics_of_known_places():
    hits = np.zeros((3, 20), bool)
    hits[0, 0] = hits[1, 3] = hits[2, 15] = True  # first, fourth and sixteenth place

    found = metrics_of(hits)

    assert found["hr@1"] == pytest.approx(1 / 3, abs=1e-5)
    assert found["hr@5"] == pytest.approx(2 / 3, abs=1e-5)
    assert found["hr@10"] == pytest.approx(2 / 3, abs=1e-5)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(5)) / 3, abs=1e-5)
    assert found["mrr@200"] == pytest.approx((1 + 1 / 4 + 1 / 16) / 3, abs=1e-5)


def test_a_target_beyond_the_lists_counts_as_missed():
    assert metrics_of(np.zeros((2, 10), bool))["hr@10"] == 0


def test_the_last_event_is_held_out_and_users_with_one_event_are_left_out():
    split = leave_one_out([history(3, 1, 2), history(5)])

    assert [h.item_rows.tolist() for h in split.histories] == [[3, 1]]
    assert split.targets == [2]


def test_nobody_with_two_events_is_an_error():
    with pytest.raises(InvalidInput, match="nothing can be held out"):
        leave_one_out([history(5)])


def test_items_of_the_history_are_not_ranked():
    split = leave_one_out([history(0, 1, 2)])

    def seen_first(histories):
        return np.array([[9.0, 8.0, 1.0, 0.0]])

    assert evaluate_scores(split, seen_first)["hr@1"] == 1


def test_popularity_counts_events():
    assert Popularity([history(0, 1), history(1)], 3).scores(history(2)).tolist() == [1, 2, 0]


def test_neighbours_are_directed_and_damped_by_distance():
    counts = cooccurrence([history(0, 1, 2)], 3, reach=2).toarray()

    np.testing.assert_allclose(counts, [[0, 1, 2**-0.5], [0, 0, 1], [0, 0, 0]])


def test_cooccurrence_weighs_the_last_items_by_recency():
    ranker = CoOccurrence([history(0, 2), history(1, 3)], 4)

    scores = ranker.scores(history(0, 1))

    np.testing.assert_allclose(scores, [0, 0, 0.8, 1.0], rtol=1e-6)


def test_items_with_the_same_neighbours_have_the_same_factors():
    users = [history(a, b) for a in (0, 1) for b in (4, 5)] + [history(2, 3)] * 3

    factors = item_factors(cooccurrence(users, 6, reach=3), dim=4)

    assert factors[0] @ factors[1] > 0.95
    assert abs(factors[0] @ factors[2]) < 0.2


def test_served_scores_are_the_best_interests(bundle):
    users = [history(*range(n)) for n in (1, 9, 30)]
    served = Served(bundle)

    scores = served.scores(users, refine=True)

    vectors = served.interests(users, refine=True)
    expected = [[max(k @ e for k in user) for e in bundle.catalogue.embeddings] for user in vectors]
    assert scores.shape == (3, N_ITEMS)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
