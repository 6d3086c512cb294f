"""Interests as the page shows them: groups of named items."""

from protos.rec.v1.recommend_pb2 import InterestView, ScoredItem
from retrieval.interest_groups import interest_groups


def item(item_id, *categories):
    return ScoredItem(item_id=item_id, title=item_id, categories=categories)


def ids(group):
    return [item.item_id for item in group.items]


def test_the_heaviest_interest_stands_first():
    views = [InterestView(interest=0, weight=0.25), InterestView(interest=1, weight=0.75)]

    assert [group.interest for group in interest_groups(views)] == [1, 0]


def test_an_item_that_two_interests_are_near_to_stands_once():
    near = [item("a"), item("b"), item("c")]
    views = [InterestView(interest=k, weight=0.5 - k / 10, items=near) for k in (0, 1)]

    assert [ids(group) for group in interest_groups(views)] == [["a", "c"], ["b"]]


def test_interests_apart_keep_their_own_items_in_order():
    views = [
        InterestView(interest=0, weight=0.6, items=[item("a"), item("b")]),
        InterestView(interest=1, weight=0.4, items=[item("x"), item("y")]),
    ]

    assert [ids(group) for group in interest_groups(views)] == [["a", "b"], ["x", "y"]]


def test_an_interest_is_called_after_what_sets_it_apart():
    dramas = [item("a", "drama", "war"), item("b", "drama", "war")]
    comedies = [item("x", "drama", "comedy"), item("y", "comedy")]
    views = [
        InterestView(interest=0, weight=0.6, items=dramas),
        InterestView(interest=1, weight=0.4, items=comedies),
    ]

    # war: 2 * 2 / 2, drama: 2 * 2 / 3; comedy: 2 * 2 / 2, drama: 1 * 1 / 3
    assert [group.name for group in interest_groups(views)] == ["war, drama", "comedy, drama"]


def test_one_item_names_no_interest_of_many():
    items = [item("a", "drama"), item("b", "drama"), item("c", "drama", "noir")]

    (group,) = interest_groups([InterestView(interest=0, weight=1.0, items=items)])

    assert group.name == "drama"


def test_a_name_that_is_taken_gives_way_to_the_next_best():
    near = [item(str(row), "a", "b", "c") for row in range(4)]
    views = [InterestView(interest=k, weight=1 - k / 4, items=near) for k in range(3)]

    assert [group.name for group in interest_groups(views)] == ["a, b", "a, c", "b, c"]


def test_no_two_interests_have_one_name_and_none_is_nameless():
    views = [
        InterestView(interest=2, weight=0.5, items=[item("a", "war")]),
        InterestView(interest=0, weight=0.3, items=[item("b", "war")]),
        InterestView(interest=1, weight=0.2, items=[item("c")]),
    ]

    assert [group.name for group in interest_groups(views)] == ["war", "war (1)", "Interest 2"]


def test_a_user_without_interests_has_no_groups():
    assert interest_groups([]) == []
