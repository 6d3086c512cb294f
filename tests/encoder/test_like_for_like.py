"""What `freshet bench rectools` makes of two sides' lists."""

import math

import numpy as np
import pytest

from encoder.bench.like_for_like import Rival, compared, largest_difference
from encoder.ranking import TOP, Ranking, accuracy, means

N_USERS = 20


def lists(place):
    """Every user's target, 7, at the same place of his list."""
    tops = np.full((N_USERS, TOP), -1)
    tops[:, place] = 7
    return Ranking(tops, np.full(N_USERS, 7))


def rival(place, judged):
    return Rival([lists(place)], 30, judged)


def judged_as(ranking, off=0.0):
    found = means(accuracy(ranking.hits))
    return found | {"mrr@10": found["mrr@10"] + off}


def test_ours_must_be_higher_on_both_metrics():
    ours = lists(2)

    assert compared([ours], rival(10, judged_as(ours))).ok
    assert not compared([ours], rival(2, judged_as(ours))).ok  # no more than as good
    assert not compared([ours], rival(0, judged_as(ours))).ok  # hr@10 is as good, ndcg@10 less


@pytest.mark.parametrize(("off", "ok"), [(9e-6, True), (1.1e-5, False), (math.nan, False)])
def test_both_libraries_must_say_the_same_of_one_list(off, ok):
    ours = lists(2)

    found = compared([ours], rival(10, judged_as(ours, off)))

    assert found.ok is ok
    assert "largest_difference_of_metrics" in found.bar
    assert "largest_difference_of_metrics" in found.figures


def test_the_difference_is_the_largest_of_all_metrics():
    assert largest_difference({"a": 1.0, "b": 2.0}, {"a": 1.25, "b": 1.5}) == 0.5
