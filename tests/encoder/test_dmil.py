import math

import pytest
import torch

from encoder.dmil import (
    Assignment,
    assign,
    cluster_targets,
    nce_loss,
    served_loss,
    target_weights,
    weight_loss,
    win_counts,
)

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
NORTH_EAST = [math.sqrt(0.5), math.sqrt(0.5)]


def test_targets_are_grouped_by_cosine():
    embeddings = torch.tensor([[EAST, NORTH, EAST, NORTH_EAST]])
    near_north = torch.nn.functional.normalize(torch.tensor([0.1, 1.0]), dim=0)
    embeddings[0, 3] = near_north

    groups = cluster_targets(embeddings, torch.tensor([[5, 6, 7, 8]]), n_groups=2)

    assert groups.tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_there_are_exactly_as_many_groups_as_interests_or_distinct_targets(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-1, 6, (64, 8), generator=generator)
    rows[:, 0] = rows[:, 0].clamp_min(0)
    table = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=1)

    groups = cluster_targets(table[rows.clamp_min(0)], rows, n_groups=3)

    for sample in range(64):
        is_target = rows[sample] >= 0
        distinct = set(rows[sample][is_target].tolist())
        assert len(set(groups[sample][is_target].tolist())) == min(3, len(distinct))
        assert (groups[sample][~is_target] == -1).all()


def test_each_group_goes_to_the_query_that_matches_best_overall():
    # Query 0 likes both groups best, but the sum is greatest when query 1 takes the north.
    interests = torch.nn.functional.normalize(torch.tensor([[[1.0, 0.4], [0.9, 0.5]]]), dim=-1)
    embeddings = torch.tensor([[EAST, NORTH]])

    assignment = assign(interests, embeddings, groups=torch.tensor([[0, 1]]))

    assert assignment.queries.tolist() == [[0, 1]]


def test_nearer_targets_weigh_more_and_weights_sum_to_one():
    weights = target_weights(torch.tensor([[True, True, False]]), decay=0.5)

    torch.testing.assert_close(weights, torch.tensor([[1 / 1.5, 0.5 / 1.5, 0.0]]))


def test_the_nce_of_a_target_is_that_of_its_query():
    scores = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])  # two queries, two items
    assignment = Assignment(torch.tensor([[0, 1]]), torch.tensor([[True, True]]))

    loss = nce_loss(
        scores,
        scores.logsumexp(-1),
        torch.tensor([[0, 1]]),
        assignment,
        torch.tensor([[0.75, 0.25]]),
    )

    first = math.log(math.exp(2) + 1) - 2
    second = math.log(1 + math.exp(1)) - 1
    assert loss.item() == pytest.approx(0.75 * first + 0.25 * second, rel=1e-5)


def test_the_served_loss_is_the_softmax_of_the_best_interest():
    scores = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])

    loss = served_loss(scores, torch.tensor([1]))

    assert loss.item() == pytest.approx(math.log(math.exp(2) + math.exp(1)) - 1, rel=1e-5)


def test_interest_weights_learn_the_share_of_each_query():
    assignment = Assignment(torch.tensor([[0, 0, 1]]), torch.ones(1, 3, dtype=torch.bool))
    weights = torch.tensor([[0.5, 0.3, 0.2]])

    loss = weight_loss(torch.zeros(1, 2), assignment, weights)

    assert loss.item() == pytest.approx(-(0.8 * math.log(0.5) + 0.2 * math.log(0.5)), rel=1e-5)


def test_wins_count_targets_only():
    is_target = torch.tensor([[True, True, True], [True, False, False]])
    assignment = Assignment(torch.tensor([[0, 1, 0], [1, 0, 0]]), is_target)

    assert win_counts(assignment, 2).tolist() == [2, 2]
