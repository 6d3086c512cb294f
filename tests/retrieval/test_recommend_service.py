"""RecommendService over a real grpc.aio server; only Milvus, the encoder and Kafka are fakes."""

import time

import grpc
import grpc.aio
import pytest

from protos.rec.v1.interests_pb2 import SeenSegment, Tier
from protos.rec.v1.recommend_pb2 import (
    GetUserRequest,
    ListUsersRequest,
    RecommendRequest,
    SeenPolicy,
    Source,
)
from tests.retrieval.recommending import X, Y, fill, ids, recommend, refusal, served
from tests.retrieval.retrieval_world import (
    World,
    hashes,
    interests,
    recent,
    state,
    unit,
)


async def test_a_feed_shares_its_places_between_the_interests(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X, Y)))

    feed = await recommend(stub)

    assert sorted(ids(feed)) == ["x0", "x1", "y0", "y1"]
    assert (feed.source, feed.degraded_reason) == (Source.SOURCE_REFINED, "")
    assert (feed.model_version, feed.encoded_offset, feed.includes_receipt) == ("m1", 7, True)
    assert feed.items[0].title == f"Title {feed.items[0].item_id}"
    assert {item.interest for item in feed.items} == {0, 1}


async def test_an_unknown_user_gets_what_is_trending(world, stub):
    fill(world)

    feed = await recommend(stub)

    assert (feed.source, ids(feed)) == (Source.SOURCE_TRENDING, ["x5", "y5", "x4"])


async def test_an_unknown_user_gets_what_is_trending_in_the_wanted_category(world, stub):
    fill(world)
    world.add_trending(("y3", 2.0), category="drama")

    feed = await recommend(stub, categories=["drama"])

    assert (feed.source, ids(feed)) == (Source.SOURCE_TRENDING_CATEGORY, ["y3", "y5"])


async def test_with_nothing_trending_the_answer_is_empty_and_says_why(world, stub):
    feed = await recommend(stub)

    assert (feed.source, ids(feed)) == (Source.SOURCE_TRENDING, [])
    assert "nothing that may be shown is trending yet" in feed.degraded_reason


async def test_an_erased_user_is_like_an_unknown_one(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X)))
    world.add_user(state("u", 8, erased=True))

    assert (await recommend(stub)).source == Source.SOURCE_TRENDING
    assert (await refusal(stub.GetUser(GetUserRequest(user_id="u"))))[0].name == "NOT_FOUND"
    assert not (await stub.ListUsers(ListUsersRequest())).users


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"user_id": ""}, "user_id is empty"),
        ({"n": 0}, "ask for 1 to 500"),
        ({"n": 100_000}, "ask for 1 to 500"),
        ({"user_id": "u" * 257}, "more than 256 bytes"),
        ({"tenant": "No Such"}, "must match"),
        ({"filter": "price < 3"}, "which no item of the tenant carries"),
        ({"exclude_item_ids": ["a"] * 10_001}, "at most 10,000"),
        ({"categories": [""]}, "categories is empty"),
        ({"seen_policy": 17}, "not declared"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_in_words(stub, fields, words):
    status, details = await refusal(recommend(stub, **fields))

    assert status == grpc.StatusCode.INVALID_ARGUMENT
    assert words in details


async def test_an_empty_request_is_refused(stub):
    status, _ = await refusal(stub.Recommend(RecommendRequest()))

    assert status == grpc.StatusCode.INVALID_ARGUMENT


async def test_seen_excluded_and_unavailable_items_are_not_shown(world, stub):
    fill(world)
    world.add_item("x2", unit(1, 0, 0.2, 0), available=False)
    world.add_user(
        state("u", 7, interests(X), n_closed_segments=1, open_segment_hashes=hashes("x1"))
    )
    world.add_seen(SeenSegment(tenant="default", user_id="u", item_hashes=hashes("x0"), offset=3))

    feed = await recommend(stub, n=2, exclude_item_ids=["x3"])

    assert ids(feed) == ["x4", "x5"]


async def test_the_seen_policy_can_let_them_back(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X), recent=[recent("x0", time_ms=1_000)]))

    allowed = await recommend(stub, n=1, seen_policy=SeenPolicy.SEEN_POLICY_ALLOWED)
    aged = await recommend(
        stub, n=1, seen_policy=SeenPolicy.SEEN_POLICY_AFTER_DAYS, seen_after_days=30
    )

    assert ids(allowed) == ids(aged) == ["x0"]


@pytest.mark.parametrize(
    ("fields", "comes_back"),
    [
        ({}, False),
        ({"scenario": "radio"}, True),
        ({"scenario": "shop"}, True),
        ({"scenario": "slow shop"}, False),
        ({"scenario": "unheard of"}, False),
        ({"scenario": "radio", "seen_policy": SeenPolicy.SEEN_POLICY_NEVER}, False),
    ],
)
async def test_a_scenario_has_its_rule_for_seen_items_unless_the_question_has_one(
    tmp_path, fields, comes_back
):
    rules = {"radio": "allowed", "shop": 30, "slow shop": 365}
    world = World(tmp_path, seen_rules=rules)
    fill(world)
    a_hundred_days_ago = time.time_ns() // 1_000_000 - 100 * 24 * 3600 * 1000
    seen = [recent("x0", a_hundred_days_ago)]
    world.add_user(state("u", 1, interests(X), recent=seen))
    async with served(world) as stub:
        feed = await recommend(stub, n=2, **fields)
    world.store.close()

    assert ("x0" in ids(feed)) == comes_back


async def test_only_wanted_categories_are_shown(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X)))

    assert ids(await recommend(stub, n=2, categories=["drama"]))[0].startswith("y")


async def test_a_search_that_leaves_too_few_is_made_again_deeper(world, stub):
    for row in range(300):
        world.add_item(f"i{row:03}", unit(1, 0, 0.01 * row, 0))
    seen = [f"i{row:03}" for row in range(290)]
    world.add_user(state("u", 7, interests(X), open_segment_hashes=hashes(*seen)))

    feed = await recommend(stub, n=5)

    assert ids(feed) == [f"i{row:03}" for row in range(290, 295)]
    assert len(world.index.limits) > 1


async def test_an_interest_whose_nearest_items_have_been_seen_keeps_its_places(world, stub):
    fill_with_much_seen(world)

    feed = await recommend(stub, n=4)

    assert sorted(ids(feed)) == ["x500", "x501", "y000", "y001"]


@pytest.mark.parametrize("asked_before", [1, 30, 500])
async def test_the_same_state_gives_the_same_feed_whatever_was_searched_before(
    world, stub, asked_before
):
    fill_with_much_seen(world, n_seen=60)
    feed = await recommend(stub, n=20)
    await recommend(stub, n=asked_before)

    again = await recommend(stub, n=20)

    assert again.items == feed.items


async def test_the_second_feed_needs_one_search_however_much_was_seen(world, stub):
    fill_with_much_seen(world)
    await recommend(stub)
    n_searches = len(world.index.limits)

    await recommend(stub)

    assert len(world.index.limits) == n_searches + 1


def fill_with_much_seen(world: World, n_seen: int = 500) -> None:
    """The nearest items of one of two interests have been seen."""
    for row in range(600):
        world.add_item(f"x{row:03}", unit(1, 0, 0.01 * row, 0))
        world.add_item(f"y{row:03}", unit(0, 1, 0, 0.01 * row))
    seen = hashes(*(f"x{row:03}" for row in range(n_seen)))
    world.add_user(state("u", 7, interests(X, Y), open_segment_hashes=seen))


async def test_a_search_that_has_no_more_is_filled_up_with_trending(world, stub):
    world.add_item("only", X)
    world.add_item("other", Y, model="m0")
    world.add_trending(("other", 3.0))
    world.add_user(state("u", 7, interests(X)))

    feed = await recommend(stub)

    assert [(item.item_id, item.interest) for item in feed.items] == [("only", 0), ("other", -1)]
    assert feed.source == Source.SOURCE_REFINED
    assert "fill up" in feed.degraded_reason


async def test_coarse_interests_are_said_to_be_coarse(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X, tier=Tier.TIER_LIGHT)))

    feed = await recommend(stub)

    assert feed.source == Source.SOURCE_COARSE
    assert "coarse" in feed.degraded_reason


async def test_a_model_without_items_yet_falls_back_to_the_one_before(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X)))
    world.add_user(state("u", 8, interests(Y, model="m2", sequence=2)))

    feed = await recommend(stub)

    assert (feed.source, feed.model_version) == (Source.SOURCE_LAST_KNOWN, "m1")
    assert "m2" in feed.degraded_reason


async def test_interests_of_another_length_than_the_items_degrade(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(unit(1, 0))))

    feed = await recommend(stub)

    assert feed.source == Source.SOURCE_TRENDING
    assert "not as long" in feed.degraded_reason


async def test_while_milvus_is_away_trending_answers_within_the_deadline(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X)))
    world.index.delay_s = 60
    start = time.monotonic()

    feed = await recommend(stub, within_s=0.5)

    assert time.monotonic() - start < 0.5
    assert (feed.source, ids(feed)) == (Source.SOURCE_TRENDING, ["x5", "y5", "x4"])
    assert "Milvus" in feed.degraded_reason
