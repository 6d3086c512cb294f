"""RecommendService over a real grpc.aio server; only Milvus, the encoder and Kafka are fakes."""

import asyncio
import time

import grpc
import grpc.aio
import pytest

from infra.grpc_server import GrpcServer
from infra.kafka_topics import user_partition
from protos.errors import DependencyDown
from protos.rec.v1.events_pb2 import Event, Receipt
from protos.rec.v1.interests_pb2 import SeenSegment, Tier
from protos.rec.v1.recommend_pb2 import (
    FeedQuery,
    GetUserRequest,
    ListUsersRequest,
    RecommendNextRequest,
    RecommendRequest,
    SeenPolicy,
    SimilarItemsRequest,
    Source,
)
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from retrieval.service import recommend_service
from tests.retrieval.retrieval_world import (
    N_PARTITIONS,
    World,
    hashes,
    interests,
    recent,
    state,
    unit,
)

X, Y = unit(1, 0, 0, 0), unit(0, 1, 0, 0)
PARTITION = user_partition("default", "u", N_PARTITIONS)


@pytest.fixture
async def stub(world):
    server = GrpcServer("127.0.0.1:0", [recommend_service(world.servicer)])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RecommendServiceStub(channel)
    await world.servicer.close()
    await server.stop(0)


def fill(world: World, n_items: int = 12) -> None:
    """Half the items lie along X, from nearest to farthest, half along Y."""
    for row in range(n_items // 2):
        world.add_item(f"x{row}", unit(1, 0, 0.1 * row, 0), categories=["action"])
        world.add_item(f"y{row}", unit(0, 1, 0, 0.1 * row), categories=["drama"])
    world.add_trending(("x5", 9.0), ("y5", 8.0), ("x4", 7.0))


async def recommend(stub, within_s=5, **fields):
    after = fields.pop("after", None)
    session = fields.pop("session", ())
    query = FeedQuery(**{"user_id": "u", "n": 4} | fields)
    request = RecommendRequest(query=query, after=after, session=session)
    return (await stub.Recommend(request, timeout=within_s)).feed


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


def ids(feed):
    return [item.item_id for item in feed.items]


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
        ({"filter": "price < 3"}, "not supported yet"),
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


async def test_a_session_speaks_for_a_user_without_history(world, stub):
    fill(world)
    world.sessions.answer = interests(Y)

    feed = await recommend(stub, n=2, session=[Event(item_id="y0", action="click")])

    assert (feed.source, ids(feed)) == (Source.SOURCE_SESSION, ["y1", "y2"])


async def test_without_the_encoder_a_session_gets_what_is_trending(world, stub):
    fill(world)

    feed = await recommend(stub, session=[Event(item_id="x5", action="click")])

    assert (feed.source, ids(feed)) == (Source.SOURCE_TRENDING, ["y5", "x4"])
    assert "no encoder here" in feed.degraded_reason


async def test_explain_names_the_nearest_recent_items(world, stub):
    fill(world)
    user = state("u", 7, interests(X), recent=[recent("y0"), recent("x0"), recent("gone")])
    world.add_user(user)

    feed = await recommend(stub, n=1, explain=True)

    explanation = feed.items[0].explanation
    assert list(explanation.because_item_ids) == ["x0", "y0"]
    assert explanation.score_parts["interest_weight"] == 1


async def test_a_receipt_is_waited_for(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X)))
    after = Receipt(user_id="u", partition=PARTITION, offset=8)
    waiting = asyncio.create_task(recommend(stub, after=after))
    await asyncio.sleep(0.05)
    assert not waiting.done()

    world.add_user(state("u", 8, interests(Y)))
    feed = await waiting

    assert (feed.includes_receipt, feed.encoded_offset) == (True, 8)
    assert ids(feed)[0].startswith("y")


async def test_at_the_deadline_the_best_answer_goes_out_marked(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X)))

    feed = await recommend(
        stub, within_s=0.6, after=Receipt(user_id="u", partition=PARTITION, offset=8)
    )

    assert (feed.includes_receipt, feed.source) == (False, Source.SOURCE_LAST_KNOWN)
    assert len(feed.items) == 4


@pytest.mark.parametrize(
    ("receipt", "words"),
    [
        (Receipt(user_id="u", partition=PARTITION, offset=10), "ends at 10"),
        (Receipt(user_id="v", partition=PARTITION, offset=1), "another user"),
        (Receipt(user_id="u", partition=(PARTITION + 1) % 4, offset=1), "names partition"),
        (Receipt(user_id="u", partition=PARTITION, offset=-1), "begin at 0"),
        (Receipt(tenant="other", user_id="u", partition=PARTITION, offset=1), "another user"),
    ],
)
async def test_a_receipt_that_cannot_be_is_refused(world, stub, receipt, words):
    world.log_end.end = 10

    status, details = await refusal(recommend(stub, after=receipt))

    assert status == grpc.StatusCode.INVALID_ARGUMENT
    assert words in details


async def test_the_next_page_repeats_nothing_and_keeps_the_id(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X, Y)))
    first = await recommend(stub, exclude_item_ids=["x0"])
    pages, token = [ids(first)], first.next_page_token
    for _ in range(2):
        request = RecommendNextRequest(user_id="u", page_token=token, n=4)
        feed = (await stub.RecommendNext(request)).feed
        assert feed.recommendation_id == first.recommendation_id
        pages, token = [*pages, ids(feed)], feed.next_page_token

    shown = [item_id for page in pages for item_id in page]
    assert len(shown) == len(set(shown)) == 11
    assert "x0" not in shown


async def test_a_page_of_another_user_is_refused(world, stub):
    fill(world)
    token = (await recommend(stub)).next_page_token

    status, _ = await refusal(
        stub.RecommendNext(RecommendNextRequest(user_id="v", page_token=token, n=1))
    )

    assert status == grpc.StatusCode.INVALID_ARGUMENT


async def test_items_like_one_leave_it_out(world, stub):
    fill(world)

    response = await stub.SimilarItems(SimilarItemsRequest(item_id="x0", n=2))

    assert [item.item_id for item in response.items] == ["x1", "x2"]
    assert response.model_version == "m1"


async def test_an_unknown_item_is_not_found(stub):
    status, details = await refusal(stub.SimilarItems(SimilarItemsRequest(item_id="nope", n=2)))

    assert status == grpc.StatusCode.NOT_FOUND
    assert "UpsertItems" in details


async def test_a_user_is_shown_newest_first_with_named_interests(world, stub):
    fill(world)
    user = state("u", 7, interests(X, Y), recent=[recent("x0"), recent("gone")], n_events=2)
    world.add_user(user)

    shown = await stub.GetUser(GetUserRequest(user_id="u", n_items_per_interest=2))

    assert [event.item.item_id for event in shown.recent] == ["gone", "x0"]
    assert shown.recent[1].item.title == "Title x0"
    assert shown.recent[0].action == "click"
    assert [[item.item_id for item in view.items] for view in shown.interests] == [
        ["x0", "x1"],
        ["y0", "y1"],
    ]
    assert shown.vectors == user.interests


async def test_without_milvus_a_user_is_shown_without_the_looks(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X, Y)))
    world.index.failure = DependencyDown("Milvus is away")

    shown = await stub.GetUser(GetUserRequest(user_id="u", n_items_per_interest=2))

    assert [len(view.items) for view in shown.interests] == [0, 0]


@pytest.mark.parametrize(
    "request_", [GetUserRequest(), GetUserRequest(user_id="u", n_items_per_interest=21)]
)
async def test_a_bad_question_about_a_user_is_refused(stub, request_):
    assert (await refusal(stub.GetUser(request_)))[0] == grpc.StatusCode.INVALID_ARGUMENT


async def test_users_come_in_pages(world, stub):
    for user_id in ("b", "a", "c"):
        world.add_user(state(user_id, 1, recent=[recent("x", time_ms=5)]))
    world.add_user(state("never", 1, n_events=0))

    first = await stub.ListUsers(ListUsersRequest(page_size=2))
    second = await stub.ListUsers(ListUsersRequest(page_size=2, page_token=first.next_page_token))

    assert [user.user_id for user in first.users] == ["a", "b"]
    assert [user.user_id for user in second.users] == ["c"]
    assert (second.next_page_token, second.users[0].last_event_time_ms) == ("", 5)


async def test_too_many_requests_at_once_are_told_to_retry(tmp_path):
    world = World(tmp_path, max_in_flight=1)
    world.index.delay_s = 0.3
    fill(world)
    world.add_user(state("u", 7, interests(X)))
    server = GrpcServer("127.0.0.1:0", [recommend_service(world.servicer)])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = RecommendServiceStub(channel)
        slow = asyncio.create_task(recommend(stub))
        await asyncio.sleep(0.1)

        status, _ = await refusal(recommend(stub))
        await slow

    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
    await server.stop(0)
    world.store.close()


async def test_another_tenants_items_and_users_never_appear(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X)))

    feed = await recommend(stub, tenant="other")

    assert ids(feed) == []
    assert not (await stub.ListUsers(ListUsersRequest(tenant="other"))).users
