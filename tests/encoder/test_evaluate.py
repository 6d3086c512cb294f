import math

import numpy as np
import pytest
import torch

from encoder.baselines import CoOccurrence, Popularity
from encoder.bundle import load_bundle
from encoder.evaluate import Served, evaluate_scores
from encoder.histories import History
from encoder.neighbours import cooccurrence, item_factors
from encoder.ranking import Ranking, accuracy, beyond_accuracy, by_group, means, paired_bootstrap
from encoder.splits import before, last_events, leave_one_out, moment_of, prequential, temporal
from encoder.start import tokens_of
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

    found = means(accuracy(hits))

    assert found["hr@1"] == pytest.approx(1 / 3, abs=1e-5)
    assert found["hr@5"] == pytest.approx(2 / 3, abs=1e-5)
    assert found["hr@10"] == pytest.approx(2 / 3, abs=1e-5)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(5)) / 3, abs=1e-5)
    assert found["mrr@200"] == pytest.approx((1 + 1 / 4 + 1 / 16) / 3, abs=1e-5)


def test_a_target_beyond_the_lists_counts_as_missed():
    assert means(accuracy(np.zeros((2, 10), bool)))["hr@10"] == 0


def test_the_last_event_is_held_out_and_users_with_one_event_are_left_out():
    split = leave_one_out([history(3, 1, 2), history(5)])

    assert [h.item_rows.tolist() for h in split.histories] == [[3, 1]]
    assert split.targets == [2]


def test_nobody_with_two_events_is_an_error():
    with pytest.raises(InvalidInput, match="nothing can be held out"):
        leave_one_out([history(5)])


def test_the_last_events_are_each_foretold_from_all_before_and_none_is_learned_from():
    known, split = last_events([history(3, 1, 2, 4), history(5, 6)], 2)

    assert [one.item_rows.tolist() for one in known] == [[3, 1]]
    assert [one.item_rows.tolist() for one in split.histories] == [[3, 1], [3, 1, 2]]
    assert split.targets == [2, 4]
    with pytest.raises(InvalidInput, match="more than 4 events"):
        last_events([history(3, 1, 2, 4)], 4)


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


def test_the_catalogue_is_encoded_once_and_said_how_far(bundle):
    said = []
    served = Served(bundle, progress=lambda *words: said.append(words))
    tokens = tokens_of(bundle)
    with torch.no_grad():
        items = bundle.model.tower.encode(tokens.tokens, tokens.lengths, torch.arange(N_ITEMS))

    known = Served(bundle, items=items, progress=lambda *words: said.append(words))

    assert said == [("encode items", N_ITEMS, N_ITEMS)]
    users = [history(*range(n)) for n in (1, 9, 30)]
    ours, theirs = (one.scores(users, refine=True) for one in (served, known))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scores_are_the_same_on_a_gpu(bundle_folder):
    users = [history(*range(n)) for n in (1, 9, 30)]

    ours, theirs = (
        Served(load_bundle(bundle_folder), device).scores(users, refine=True)
        for device in ("cpu", "cuda")
    )

    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def timed(user, *events):
    rows, times = zip(*events, strict=True)
    n = len(rows)
    return History(
        user,
        np.array(rows),
        np.ones(n, np.uint8),
        np.zeros(n, np.uint16),
        np.array(times, dtype=np.int64),
    )


USERS = [
    timed("a", (0, 10), (1, 20), (2, 30), (3, 40)),
    timed("b", (4, 10), (5, 30), (6, 30), (7, 35)),
    timed("early", (8, 5), (9, 6)),
    timed("late", (8, 50), (9, 60)),
]


def test_temporal_split_asks_for_the_first_event_after_the_moment():
    split = temporal(USERS, 30)

    assert [h.item_rows.tolist() for h in split.histories] == [[0, 1], [4]]
    assert split.targets == [2, 5]
    assert [h.item_rows.tolist() for h in before(USERS, 30)] == [[0, 1], [4], [8, 9]]


def test_prequential_goes_through_time_and_events_of_one_moment_do_not_know_each_other():
    split = prequential(USERS, 30)

    cases = [(h.user_id, h.item_rows.tolist(), t) for h, t in zip(*fields(split), strict=True)]
    assert cases == [
        ("a", [0, 1], 2),
        ("b", [4], 5),
        ("b", [4], 6),
        ("b", [4, 5, 6], 7),
        ("a", [0, 1, 2], 3),
        ("late", [8], 9),
    ]
    assert len(prequential(USERS, 30, limit=2)) == 2


def fields(split):
    return split.histories, split.targets


def test_a_moment_before_or_after_everything_is_an_error():
    with pytest.raises(InvalidInput, match="choose another moment"):
        temporal(USERS, 100)
    assert moment_of(USERS, 0.5) == 30


def test_what_lies_beyond_accuracy_of_known_lists():
    tops = np.array([[0, 1] + [-1] * 198, [0, 2] + [-1] * 198])
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32)

    found = beyond_accuracy(Ranking(tops, np.array([0, 0])), np.array([2.0, 1, 0, 0]), vectors)

    assert found["coverage@10"] == 0.75
    bits = [-math.log2(share) for share in (3 / 7, 2 / 7, 3 / 7, 1 / 7)]
    assert found["novelty@10"] == pytest.approx(sum(bits) / 4, abs=1e-5)
    assert found["diversity@10"] == pytest.approx((1 + 0) / 2)


def test_groups_cover_all_cases_and_name_their_edges():
    values = {"hr@10": np.array([1.0, 0, 1, 1])}

    found = by_group(values, np.array([3.0, 10, 19, 20]), (10, 20))

    assert found == {
        "< 10": {"n_cases": 1, "hr@10": 1},
        "10-19": {"n_cases": 2, "hr@10": 0.5},
        ">= 20": {"n_cases": 1, "hr@10": 1},
    }


def test_paired_bootstrap_is_about_the_difference():
    rng = np.random.default_rng(0)
    theirs = (rng.random(2_000) < 0.3).astype(float)
    ours = np.maximum(theirs, rng.random(2_000) < 0.05)

    found = paired_bootstrap(ours, theirs)

    assert np.mean(found) == pytest.approx((ours - theirs).mean(), abs=0.002)
    assert np.quantile(found, 0.01) > 0
