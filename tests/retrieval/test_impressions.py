"""What is counted of feeds that were shown, over a real grpc.aio server."""

import uuid

import grpc
import pytest

from infra.attribution import N_PAIRS
from protos.rec.v1.recommend_pb2 import (
    FeedQuery,
    PreviewFeedRequest,
    RecommendNextRequest,
    RecommendRequest,
    StreamFeedRequest,
)
from retrieval.measures import IMPRESSIONS
from tests.retrieval.recommending import X, Y, fill, recommend, refusal
from tests.retrieval.retrieval_world import interests, state


@pytest.fixture
def scenario():
    """A name of one's own: the counter is the process's."""
    return f"test-{uuid.uuid4().hex[:8]}"


def shown(scenario):
    """Return the items counted of scenarios that begin so, by (scenario, variant)."""
    return {
        (one.labels["scenario"], one.labels["variant"]): one.value
        for one in IMPRESSIONS.collect()[0].samples
        if one.name.endswith("_total") and one.labels["scenario"].startswith(scenario)
    }


async def test_items_that_are_answered_are_impressions(world, stub, scenario):
    fill(world)
    world.add_user(state("u", 7, interests(X, Y)))

    await recommend(stub, scenario=scenario, variant="a", n=4)
    await recommend(stub, scenario=scenario, variant="a", n=2)
    await recommend(stub, scenario=scenario, n=1)

    assert shown(scenario) == {(scenario, "a"): 6, (scenario, "none"): 1}


async def test_a_further_page_counts_for_the_query_that_it_continues(world, stub, scenario):
    fill(world)
    world.add_user(state("u", 7, interests(X, Y)))
    first = await recommend(stub, scenario=scenario, variant="a", n=4)

    request = RecommendNextRequest(user_id="u", page_token=first.next_page_token, n=3)
    await stub.RecommendNext(request)

    assert shown(scenario) == {(scenario, "a"): 7}


async def test_of_a_pushed_feed_only_what_is_new_in_it_counts(world, stub, scenario):
    fill(world)
    world.add_user(state("u", 1, interests(X)))
    call = stub.StreamFeed(
        StreamFeedRequest(query=FeedQuery(user_id="u", n=4, scenario=scenario, variant="a"))
    )
    first = await call.read()
    assert shown(scenario) == {(scenario, "a"): 4}

    world.add_user(state("u", 2, interests(X, Y)))
    second = await call.read()

    before, after = ({one.item_id for one in push.feed.items} for push in (first, second))
    assert 0 < len(after - before) < 4
    assert shown(scenario) == {(scenario, "a"): 4 + len(after - before)}


async def test_a_preview_is_no_impression(world, stub, scenario):
    fill(world)
    known = state("u", 1, interests(X))

    query = FeedQuery(user_id="u", n=4, scenario=scenario)
    preview = await stub.PreviewFeed(PreviewFeedRequest(query=query, state=known))

    assert preview.feed.items
    assert shown(scenario) == {}


async def test_a_flood_of_scenarios_makes_no_more_than_the_bound_of_series(world, stub, scenario):
    fill(world)

    for number in range(N_PAIRS + 20):
        await recommend(stub, scenario=f"{scenario}-{number}")

    assert len(shown(scenario)) == N_PAIRS
    assert shown("other")["other", "other"] > 0


@pytest.mark.parametrize("field", ["scenario", "variant"])
@pytest.mark.parametrize("unfit", ["x" * 65, "two\nlines"])
async def test_a_name_that_is_no_label_is_refused_at_the_door(world, stub, field, unfit):
    query = FeedQuery(user_id="u", n=1, **{field: unfit})

    for call in (
        stub.Recommend(RecommendRequest(query=query)),
        stub.StreamFeed(StreamFeedRequest(query=query)).read(),
    ):
        status, details = await refusal(call)

        assert status == grpc.StatusCode.INVALID_ARGUMENT
        assert f"{field} " in details
        assert "at most 64 bytes of printable characters" in details
