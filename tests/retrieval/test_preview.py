"""PreviewFeed: the feed of a state that the caller brings along."""

import pytest

from protos.rec.v1.interests_pb2 import SeenSegment
from protos.rec.v1.items_pb2 import Dtype, Embedding
from protos.rec.v1.recommend_pb2 import Candidate, FeedQuery, PreviewFeedRequest, Source
from tests.retrieval.recommending import X, Y, fill, ids, recommend, refusal
from tests.retrieval.retrieval_world import hashes, interests, state, unit


async def preview(stub, given, **fields):
    query = FeedQuery(user_id="u", n=fields.pop("n", 4))
    request = PreviewFeedRequest(query=query, state=given, **fields)
    return (await stub.PreviewFeed(request, timeout=5)).feed


def candidate(item_id, vector):
    raw = vector.astype("<f4").tobytes()
    embedding = Embedding(model_version="m9", dtype=Dtype.DTYPE_F32, vector=raw, dim=len(vector))
    return Candidate(item_id=item_id, embedding=embedding)


async def test_a_state_that_is_given_gets_the_feed_that_a_stored_one_gets(world, stub):
    fill(world)
    given = state("u", 7, interests(X, Y), open_segment_hashes=hashes("x0"))
    previewed = await preview(stub, given)
    world.add_user(given)

    stored = await recommend(stub)

    assert ids(previewed) == ids(stored)
    assert "x0" not in ids(stored)
    assert (previewed.source, previewed.encoded_offset) == (Source.SOURCE_REFINED, 7)


async def test_the_stored_state_is_neither_used_nor_changed(world, stub):
    fill(world)
    world.add_user(state("u", 9, interests(Y)))
    before = ids(await recommend(stub))

    assert all(one.startswith("x") for one in ids(await preview(stub, state("u", 3, interests(X)))))
    assert ids(await recommend(stub)) == before


async def test_items_of_given_segments_are_seen(world, stub):
    fill(world)
    seen = SeenSegment(tenant="default", user_id="u", item_hashes=hashes("x0", "x1"))

    feed = await preview(stub, state("u", 3, interests(X)), seen=[seen], n=3)

    assert ids(feed) == ["x2", "x3", "x4"]


async def test_candidates_stand_in_for_the_index_of_a_model_that_is_not_deployed(world, stub):
    fill(world)
    other = state("u", 3, interests(X, model="m9"))

    feed = await preview(
        stub, other, candidates=[candidate("y1", unit(1, 0, 0, 0)), candidate("y2", Y)], n=1
    )

    assert (ids(feed), feed.model_version) == (["y1"], "m9")
    assert not world.index.limits


async def test_without_candidates_a_model_that_is_not_deployed_is_said_to_be_missing(world, stub):
    fill(world)

    feed = await preview(stub, state("u", 3, interests(X, model="m9")))

    assert feed.source == Source.SOURCE_TRENDING
    assert "m9" in feed.degraded_reason


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": state("another", 3)}, "another user than 'u'"),
        ({"state": state("u", 3), "seen": [SeenSegment()] * 65}, "65 segments; at most 64"),
        (
            {"state": state("u", 3), "candidates": [Candidate(item_id="i")] * 2_001},
            "2,001 items; at most 2,000",
        ),
        (
            {"state": state("u", 3), "candidates": [Candidate(item_id="i")]},
            "embedding has dtype 0",
        ),
    ],
)
async def test_a_state_that_cannot_be_shown_is_an_invalid_argument(world, stub, fields, words):
    request = PreviewFeedRequest(query=FeedQuery(user_id="u", n=1), **fields)

    code, details = await refusal(stub.PreviewFeed(request))

    assert code.name == "INVALID_ARGUMENT"
    assert words in details
