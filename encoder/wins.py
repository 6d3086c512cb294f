"""Which share of the targets each query won in an epoch (encoder/dmil.py).

An equal share is 1/K. DMIL wants at least half of it for each query: one that wins next to nothing
learns next to nothing, and a user then has fewer than K interests.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from encoder.peers import Peers

COARSE, REFINED = "coarse", "refined"
WANTED = 0.5
"""Of an equal share."""

WinShares = Mapping[str, Sequence[float]]
"""K shares that sum to one, of COARSE and of REFINED interests, as far as these are trained."""


class Wins:
    """Targets that each query won since an epoch's start, in all processes together."""

    def __init__(self, n_interests: int) -> None:
        self._settled = torch.zeros((2, n_interests), dtype=torch.long)
        self._new: dict[str, Tensor] = {}

    def add(self, won: Mapping[str, Tensor]) -> None:
        """Count what this process's queries won, (K,) int each, on any device."""
        for name, counts in won.items():
            self._new[name] = self._new[name] + counts if name in self._new else counts

    def settle(self, peers: Peers) -> None:
        """Add up what was new in each process. All of them come here, and agree afterwards."""
        new = torch.zeros_like(self._settled)
        for row, name in enumerate((COARSE, REFINED)):
            if name in self._new:
                new[row] = self._new[name].cpu()
        self._new.clear()
        self._settled = self._settled + peers.sum(new)

    def clear(self) -> None:
        self._settled = torch.zeros_like(self._settled)
        self._new.clear()

    @property
    def shares(self) -> WinShares:
        """What is settled."""
        return {
            name: [round(count / sum(counts), 4) for count in counts]
            for name, counts in zip((COARSE, REFINED), self._settled.tolist(), strict=True)
            if any(counts)
        }

    def state_dict(self) -> Tensor:
        assert not self._new, "what is not settled would be lost"
        return self._settled.clone()

    def load_state_dict(self, state: Tensor) -> None:
        self._settled = state.cpu()


def remarks(shares: WinShares) -> Iterator[str]:
    """Say who won how much, and which queries won too little."""
    for name, won in shares.items():
        yield f"targets won by {name} queries: {' '.join(f'{share:.0%}' for share in won)}"
        least = WANTED / len(won)
        for query, share in enumerate(won):
            if share < least:
                yield (
                    f"warning: {name} query {query} won {share:.1%} of the targets, it should win "
                    f"{least:.1%} or more; fewer n_interests may do as well"
                )
