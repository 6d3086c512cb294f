import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.merge import merge
from tests.retrieval.retrieval_world import unit


@st.composite
def problems(draw):
    n_items = draw(st.integers(0, 40))
    n_interests = draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_items, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) if n_items else 1
    interests = rng.standard_normal((n_interests, 6)).astype(np.float32)
    interests /= np.linalg.norm(interests, axis=1, keepdims=True)
    weights = draw(st.lists(st.floats(0, 1), min_size=n_interests, max_size=n_interests))
    ids = [f"item-{row}" for row in range(n_items)]
    n = draw(st.integers(1, 50))
    return ids, vectors, interests, weights, n


@given(problems())
def test_a_feed_holds_each_item_once_and_as_many_as_there_are(problem):
    ids, vectors, interests, weights, n = problem

    picks = merge(ids, vectors, interests, weights, n=n, diversity=0.1)

    rows = [pick.row for pick in picks]
    assert len(rows) == len(set(rows)) == min(n, len(ids))


@given(problems())
def test_an_item_has_its_best_interests_score(problem):
    ids, vectors, interests, weights, n = problem

    picks = merge(ids, vectors, interests, weights, n=n, diversity=0.1)

    for pick in picks:
        scores = interests @ vectors[pick.row]
        assert np.isclose(pick.score, scores.max(), atol=1e-6)
        assert np.isclose(scores[pick.interest], scores.max(), atol=1e-6)


@given(problems(), st.randoms())
def test_the_order_of_the_candidates_changes_nothing(problem, random):
    ids, vectors, interests, weights, n = problem
    order = list(range(len(ids)))
    random.shuffle(order)

    shuffled = [ids[row] for row in order]
    a = merge(ids, vectors, interests, weights, n=n, diversity=0.0)
    b = merge(shuffled, vectors[order], interests, weights, n=n, diversity=0.0)

    assert [ids[pick.row] for pick in a] == [shuffled[pick.row] for pick in b]


@given(problems())
def test_a_shorter_feed_is_the_beginning_of_a_longer_one(problem):
    ids, vectors, interests, weights, n = problem

    short = merge(ids, vectors, interests, weights, n=n, diversity=0.1)
    long = merge(ids, vectors, interests, weights, n=n + 5, diversity=0.1)

    assert [pick.row for pick in long[: len(short)]] == [pick.row for pick in short]


def test_places_are_shared_by_weight():
    interests = np.stack([unit(1, 0), unit(0, 1)])
    vectors = np.stack(
        [unit(1, 0.01 * row) for row in range(8)] + [unit(0.01 * row, 1) for row in range(8)]
    )
    ids = [f"{row:02}" for row in range(16)]

    picks = merge(ids, vectors, interests, [0.75, 0.25], n=8, diversity=0.0)

    assert [pick.interest for pick in picks].count(0) == 0.75 * 8


def test_an_interest_without_items_leaves_its_places_to_the_others():
    interests = np.stack([unit(1, 0), unit(0, 1)])
    vectors = np.stack([unit(1, 0.1 * row) for row in range(4)])

    picks = merge(["a", "b", "c", "d"], vectors, interests, [0.1, 0.9], n=4, diversity=0.0)

    assert [pick.interest for pick in picks] == [0, 0, 0, 0]


def test_variety_puts_a_different_item_before_a_copy():
    interests = np.stack([unit(1, 0, 0)])
    vectors = np.stack([unit(1, 0.3, 0), unit(1, 0.31, 0), unit(1, 0, 0.4)])

    scores_only = merge(["a", "copy", "other"], vectors, interests, [1], n=2, diversity=0.0)
    varied = merge(["a", "copy", "other"], vectors, interests, [1], n=2, diversity=0.5)

    assert [pick.row for pick in scores_only] == [0, 1]
    assert [pick.row for pick in varied] == [0, 2]


def test_ties_stand_in_the_order_of_the_ids():
    vectors = np.stack([unit(1, 0)] * 3)

    picks = merge(["c", "a", "b"], vectors, np.stack([unit(1, 0)]), [1], n=3, diversity=0.0)

    assert [pick.row for pick in picks] == [1, 2, 0]


@given(problems(), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_every_beginning_of_a_feed_has_its_share_of_new_items(problem, new_share, seed):
    ids, vectors, interests, weights, n = problem
    are_new = np.random.default_rng(seed).random(len(ids)) < 0.2

    picks = merge(
        ids, vectors, interests, weights,
        n=n, diversity=0.1, are_new=are_new, new_share=new_share,
    )  # fmt: skip

    rows = [pick.row for pick in picks]
    assert len(rows) == len(set(rows)) == min(n, len(ids))
    for n_places in range(1, len(rows) + 1):
        shown = int(are_new[rows[:n_places]].sum())
        assert shown >= min(int(new_share * n_places), int(are_new.sum()))


@given(problems())
def test_without_a_share_new_items_stand_where_any_would(problem):
    ids, vectors, interests, weights, n = problem
    are_new = np.ones(len(ids), np.bool_)

    plain = merge(ids, vectors, interests, weights, n=n, diversity=0.1)
    marked = merge(ids, vectors, interests, weights, n=n, diversity=0.1, are_new=are_new)

    assert plain == marked


@given(problems(), st.floats(0, 1))
def test_each_place_is_filled_as_the_plain_words_say(problem, diversity):
    ids, vectors, interests, weights, n = problem
    scores = vectors @ interests.T
    own = {row: int(scores[row].argmax()) for row in range(len(ids))}
    shares = weights if sum(weights) > 0 else [1.0] * len(weights)
    left, places = set(own), [0] * len(interests)
    taken = []

    def gain(row):
        nearest = max((float(vectors[row] @ vectors[one]) for one in taken), default=0.0)
        return (1 - diversity) * scores[row].max() - diversity * max(nearest, 0.0)

    for pick in merge(ids, vectors, interests, weights, n=n, diversity=diversity):
        averages = {own[row]: shares[own[row]] / (2 * places[own[row]] + 1) for row in left}
        assert averages[pick.interest] == max(averages.values())
        best = max(gain(row) for row in left if own[row] == pick.interest)
        assert gain(pick.row) >= best - 1e-5
        places[pick.interest] += 1
        left.remove(pick.row)
        taken.append(pick.row)
