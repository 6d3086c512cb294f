"""Interests as groups of named items: what the page shows of K vectors.

The interests of one user often lie close together, and then their nearest items are the same: K
lists of them say nothing. So the interests choose in turn, the heaviest first, and each takes the
nearest of its items that no other has taken; its name is what sets its items apart from the rest.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from protos.rec.v1.recommend_pb2 import InterestView, ScoredItem

MAX_NAMED = 2
"""Categories in a name."""


@dataclass(frozen=True, slots=True)
class Group:
    """One interest; `items` are its own, nearest first."""

    interest: int
    name: str
    weight: float
    items: list[ScoredItem]


def interest_groups(views: Sequence[InterestView]) -> list[Group]:
    """Return the groups, heaviest first; no item stands in two, no two have the same name."""
    ordered = sorted(views, key=lambda view: (-view.weight, view.interest))
    owned = _chosen_in_turn([list(view.items) for view in ordered])
    everything = _counted([item for items in owned for item in items])
    groups: list[Group] = []
    for view, items in zip(ordered, owned, strict=True):
        taken = [group.name for group in groups]
        name = _untaken(_names(items, everything), view.interest, taken)
        groups.append(Group(view.interest, name, view.weight, items))
    return groups


def _chosen_in_turn(lists: list[list[ScoredItem]]) -> list[list[ScoredItem]]:
    owned: list[list[ScoredItem]] = [[] for _ in lists]
    taken: set[str] = set()
    for _ in range(max(map(len, lists), default=0)):
        for candidates, own in zip(lists, owned, strict=True):
            nearest = next((item for item in candidates if item.item_id not in taken), None)
            if nearest is not None:
                taken.add(nearest.item_id)
                own.append(nearest)
    return owned


def _counted(items: Sequence[ScoredItem]) -> Counter[str]:
    return Counter(category for item in items for category in item.categories)


def _names(items: Sequence[ScoredItem], everything: Counter[str]) -> list[str]:
    """Return names, best first: of categories frequent here, those first that are rare elsewhere
    (by n_here^2 / n_everywhere)."""
    here = _counted(items)
    frequent = [name for name, n_here in here.items() if 2 * n_here >= max(here.values())]
    distinct = sorted(frequent, key=lambda name: (-(here[name] ** 2) / everything[name], name))
    pairs = combinations(distinct, min(MAX_NAMED, len(distinct)))
    return [", ".join(pair) for pair in pairs if pair]


def _untaken(names: Sequence[str], interest: int, taken: Sequence[str]) -> str:
    for name in names:
        if name not in taken:
            return name
    return f"{names[0]} ({interest + 1})" if names else f"Interest {interest + 1}"
