import torch

from encoder.peers import Peers
from encoder.wins import COARSE, REFINED, Wins, remarks


class Alike(Peers):
    """Three processes whose queries win the same."""

    def sum(self, counts):
        return 3 * counts


def won(*counts):
    return torch.tensor(counts)


def test_shares_are_of_all_targets_since_the_epochs_start():
    wins = Wins(2)
    wins.add({COARSE: won(9, 9)})
    wins.settle(Peers())
    wins.clear()

    wins.add({COARSE: won(1, 0), REFINED: won(1, 1)})
    wins.add({COARSE: won(0, 3)})
    wins.settle(Peers())

    assert wins.shares == {COARSE: [0.25, 0.75], REFINED: [0.5, 0.5]}


def test_what_other_processes_won_is_added_once():
    wins, resumed = Wins(2), Wins(2)
    wins.add({REFINED: won(1, 3)})
    wins.settle(Alike())

    resumed.load_state_dict(wins.state_dict())
    resumed.add({REFINED: won(1, 0)})
    resumed.settle(Alike())

    assert resumed.state_dict().tolist() == [[0, 0], [3 * 1 + 3 * 1, 3 * 3]]


def test_interests_that_are_not_trained_have_no_shares():
    wins = Wins(2)
    wins.settle(Peers())

    assert wins.shares == {}


def test_a_query_that_wins_less_than_half_of_an_equal_share_is_warned_of():
    said = list(remarks({COARSE: [0.4, 0.6], REFINED: [0.24, 0.76]}))

    assert said == [
        "targets won by coarse queries: 40% 60%",
        "targets won by refined queries: 24% 76%",
        "warning: refined query 0 won 24.0% of the targets, it should win 25.0% or more; "
        "fewer n_interests may do as well",
    ]
