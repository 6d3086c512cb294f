"""Every way to a feed honours its filter."""

import grpc
import pytest

from protos.rec.v1.items_pb2 import AttributeValue
from protos.rec.v1.recommend_pb2 import (
    Candidate,
    FeedQuery,
    PreviewFeedRequest,
    RecommendNextRequest,
    SimilarItemsRequest,
    Source,
    StreamFeedRequest,
)
from tests.retrieval.recommending import X, ids, recommend, refusal
from tests.retrieval.retrieval_world import interests, item_vector, state, unit

CHEAP = "price < 4 AND NOT sold_out"
N_CHEAP = 3  # of ten items with prices 0 to 9, number 2 is sold out


@pytest.fixture
def shop(world):
    for row in range(10):
        attributes = {"price": AttributeValue(number=row)}
        if row == 2:
            attributes["sold_out"] = AttributeValue(flag=True)
        world.add_item(str(row), unit(1, 0, 0.1 * row, 0), attributes=attributes)
    world.add_trending(*((str(row), 10.0 - row) for row in range(10)))
    world.add_user(state("u", 7, interests(X)))
    return world


async def test_a_recommendation_and_its_continuation_are_filtered(shop, stub):
    feed = await recommend(stub, n=2, filter=CHEAP)
    request = RecommendNextRequest(user_id="u", page_token=feed.next_page_token, n=5)

    following = (await stub.RecommendNext(request)).feed

    assert (ids(feed), ids(following)) == (["0", "1"], ["3"])


async def test_what_is_trending_is_filtered(shop, stub):
    feed = await recommend(stub, user_id="stranger", n=10, filter=CHEAP)

    assert (feed.source, ids(feed)) == (Source.SOURCE_TRENDING, ["0", "1", "3"])


async def test_what_fills_up_a_short_feed_is_filtered(shop, stub):
    shop.index.items.clear()
    shop.index.put(item_vector("0", X, attributes={"price": AttributeValue(number=0)}))

    feed = await recommend(stub, n=10, filter=CHEAP)

    assert feed.source == Source.SOURCE_REFINED
    assert ids(feed) == ["0", "1", "3"]


async def test_a_hit_that_a_late_index_still_lets_through_is_judged_again(shop, stub):
    shop.index.put(item_vector("9", X, attributes={"price": AttributeValue(number=1)}))

    feed = await recommend(stub, n=10, filter=CHEAP)

    assert "9" not in ids(feed)


async def test_an_open_feed_is_filtered(shop, stub):
    call = stub.StreamFeed(StreamFeedRequest(query=FeedQuery(user_id="u", n=10, filter=CHEAP)))

    push = await call.read()

    assert len(push.feed.items) == N_CHEAP
    call.cancel()


@pytest.mark.parametrize("n_candidates", [0, 10])
async def test_a_preview_is_filtered_searched_or_given(shop, stub, n_candidates):
    near = item_vector("0", X).embeddings[0]
    request = PreviewFeedRequest(
        query=FeedQuery(user_id="u", n=10, filter=CHEAP),
        state=state("u", 7, interests(X)),
        candidates=[Candidate(item_id=str(row), embedding=near) for row in range(n_candidates)],
    )

    feed = (await stub.PreviewFeed(request)).feed

    assert sorted(ids(feed)) == ["0", "1", "3"]


async def test_similar_items_are_filtered(shop, stub):
    request = SimilarItemsRequest(item_id="9", n=10, filter=CHEAP)

    response = await stub.SimilarItems(request)

    assert sorted(item.item_id for item in response.items) == ["0", "1", "3"]


async def test_a_filter_that_makes_no_sense_is_refused_by_every_call(shop, stub):
    query = FeedQuery(user_id="u", n=1, filter="pric < 3")
    calls = [
        recommend(stub, filter="pric < 3"),
        stub.StreamFeed(StreamFeedRequest(query=query)).read(),
        stub.PreviewFeed(PreviewFeedRequest(query=query, state=state("u", 7))),
        stub.SimilarItems(SimilarItemsRequest(item_id="9", n=1, filter="pric < 3")),
    ]

    for call in calls:
        status, details = await refusal(call)

        assert status == grpc.StatusCode.INVALID_ARGUMENT
        assert "did you mean price? known are" in details


async def test_an_attribute_that_every_item_lost_is_unknown_again(shop, stub):
    shop.add_item("2", X)

    status, details = await refusal(recommend(stub, filter=CHEAP))

    assert status == grpc.StatusCode.INVALID_ARGUMENT
    assert "names 'sold_out' at character 19" in details
