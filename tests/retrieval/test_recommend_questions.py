"""What RecommendService answers beyond a plain feed: sessions, receipts, pages, reasons, users."""

import asyncio

import grpc
import grpc.aio
import pytest

from protos.errors import DependencyDown
from protos.rec.v1.events_pb2 import Event, Receipt
from protos.rec.v1.recommend_pb2 import (
    GetUserRequest,
    ListUsersRequest,
    RecommendNextRequest,
    SimilarItemsRequest,
    Source,
)
from tests.retrieval.recommending import PARTITION, X, Y, fill, ids, recommend, refusal, served
from tests.retrieval.retrieval_world import (
    World,
    interests,
    recent,
    state,
)


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
    async with served(world) as stub:
        slow = asyncio.create_task(recommend(stub))
        await asyncio.sleep(0.1)

        status, _ = await refusal(recommend(stub))
        await slow

    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
    world.store.close()


async def test_another_tenants_items_and_users_never_appear(world, stub):
    fill(world)
    world.add_user(state("u", 7, interests(X)))

    feed = await recommend(stub, tenant="other")

    assert ids(feed) == []
    assert not (await stub.ListUsers(ListUsersRequest(tenant="other"))).users
