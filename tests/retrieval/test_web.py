"""The page's server against small gRPC servers of our own, asked by a real HTTP client."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

import httpx
import pytest
import uvicorn

from infra.grpc_server import GrpcServer, Service
from protos.errors import InvalidInput, UnknownUser
from protos.rec.v1.events_pb2 import EventResult, PublishResponse, Receipt
from protos.rec.v1.events_pb2_grpc import (
    EventServiceServicer,
    add_EventServiceServicer_to_server,
)
from protos.rec.v1.interests_pb2 import Cause, Hop
from protos.rec.v1.items_pb2 import Item
from protos.rec.v1.recommend_pb2 import (
    Feed,
    GetUserResponse,
    InterestView,
    ListUsersResponse,
    RecentEvent,
    ScoredItem,
    Source,
    StreamFeedResponse,
    UserSummary,
)
from protos.rec.v1.recommend_pb2_grpc import (
    RecommendServiceServicer,
    add_RecommendServiceServicer_to_server,
)
from retrieval.web import build_app

EVIL = '<img src=x onerror="alert(1)">'


class FakeRecommender(RecommendServiceServicer):
    def __init__(self):
        self.pushes: asyncio.Queue[StreamFeedResponse | None] = asyncio.Queue()

    async def ListUsers(self, request, context):
        users = [UserSummary(user_id=f"{request.prefix}1", n_events=3, last_event_time_ms=9)]
        return ListUsersResponse(users=users, next_page_token="more")

    async def GetUser(self, request, context):
        if request.user_id != "known":
            raise UnknownUser("nothing is known of this user")
        liked = RecentEvent(item=Item(item_id="1", title=EVIL), action="like", event_time_ms=5)
        near = ScoredItem(item_id="2", title="Near", categories=["war"], score=0.5)
        view = InterestView(interest=0, weight=1.0, items=[near])
        return GetUserResponse(user_id="known", n_events=1, recent=[liked], interests=[view])

    async def StreamFeed(self, request, context):
        if not request.query.user_id:
            raise InvalidInput("user_id is empty")
        while (push := await self.pushes.get()) is not None:
            yield push


class FakeGateway(EventServiceServicer):
    def __init__(self):
        self.requests = []

    async def Publish(self, request, context):
        self.requests.append(request)
        event = request.events[0]
        if event.action == "shrug":
            refused = EventResult(accepted=False, reason="action 'shrug' is not declared")
            return PublishResponse(results=[refused])
        accepted = EventResult(event_id=event.event_id, accepted=True)
        return PublishResponse(results=[accepted], receipt=Receipt(partition=2, offset=41))


class Site:
    """A running page with what stands behind it."""

    def __init__(self, client, recommender, gateway, server):
        self.client, self.recommender, self.gateway = client, recommender, gateway
        self.feeds_server = server


@asynccontextmanager
async def serving(add, servicer, name):
    server = GrpcServer("127.0.0.1:0", [Service(name, lambda s: add(servicer, s))])
    port = await server.start()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def web_server(feeds: str, gateway: str) -> AsyncIterator[str]:
    config = uvicorn.Config(
        build_app(feeds, gateway, "default"), port=0, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    # Its own serve() would take over the signals of the test run.
    task = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has only this flag
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def site():
    recommender, gateway = FakeRecommender(), FakeGateway()
    async with (
        serving(add_RecommendServiceServicer_to_server, recommender, "r") as (feeds, feeds_at),
        serving(add_EventServiceServicer_to_server, gateway, "e") as (_, gateway_at),
        web_server(feeds_at, gateway_at) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        yield Site(client, recommender, gateway, feeds)
        recommender.pushes.put_nowait(None)


def pushed(sequence=1):
    hops = [Hop(name="accepted", at_us=1_000), Hop(name="folded", at_us=3_500)]
    item = ScoredItem(item_id="7", title=EVIL, categories=["war"], score=0.25, interest=1)
    feed = Feed(recommendation_id="r1", items=[item], source=Source.SOURCE_COARSE)
    feed.degraded_reason = "coarse interests"
    cause = Cause(event_id="e", item_id="7", offset=4, accepted_ms=1)
    return StreamFeedResponse(
        feed=feed, cause=cause, since_event_ms=48.2, hops=hops, sequence=sequence
    )


async def server_events(response, n):
    events, name = [], ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            events.append((name, json.loads(line.removeprefix("data: "))))
            if len(events) == n:
                return events
    return events


async def test_the_page_and_all_its_parts_are_served_and_come_from_here_alone(site):
    page = await site.client.get("/")

    parts = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert page.status_code == 200
    assert {"app.js", "page.css", "icon.svg"} <= set(parts)
    for part in parts:
        assert (await site.client.get(f"/{part}")).status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for source in files("retrieval").joinpath("page").iterdir():
        text = source.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|eval\(", text), source.name


async def test_known_users_are_listed_by_prefix(site):
    answer = await site.client.get("/api/users", params={"prefix": "al"})

    assert answer.json() == {
        "users": [{"user_id": "al1", "n_events": 3, "last_event_time_ms": 9}],
        "next": "more",
    }


async def test_a_user_is_history_and_interests(site):
    user = (await site.client.get("/api/user", params={"user": "known"})).json()

    assert user["recent"][0]["title"] == EVIL
    assert user["recent"][0]["action"] == "like"
    assert user["interests"][0]["items"][0]["title"] == "Near"


async def test_a_user_nobody_knows_is_a_404_in_words(site):
    answer = await site.client.get("/api/user", params={"user": "stranger"})

    assert answer.status_code == 404
    assert "nothing is known" in answer.json()["error"]


async def test_a_click_becomes_a_real_event(site):
    body = {"user": "u", "item": "7", "action": "like", "recommendation": "r1"}

    answer = await site.client.post("/api/events", json=body)

    (request,) = site.gateway.requests
    event = request.events[0]
    assert (request.tenant, request.user_id) == ("default", "u")
    assert (event.item_id, event.action, event.recommendation_id) == ("7", "like", "r1")
    assert answer.json() == {"event_id": event.event_id, "partition": 2, "offset": 41}


async def test_an_event_that_is_refused_says_why(site):
    answer = await site.client.post("/api/events", json={"user": "u", "action": "shrug"})

    assert answer.status_code == 400
    assert answer.json() == {"error": "action 'shrug' is not declared"}


@pytest.mark.parametrize(
    "options",
    [
        {"content": b'{"user": "u"}', "headers": {"content-type": "text/plain"}},
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"content": b"\xff", "headers": {"content-type": "application/json"}},
        {"json": ["u"]},
        {"json": {"user": 7}},
        {"json": {"user": "u" * 70_000}},
    ],
)
async def test_what_is_no_event_is_refused_and_reaches_nobody(site, options):
    answer = await site.client.post("/api/events", **options)

    assert answer.status_code == 400
    assert answer.json()["error"]
    assert site.gateway.requests == []


async def test_a_push_arrives_with_its_cause_and_the_milliseconds_of_every_hop(site):
    site.recommender.pushes.put_nowait(pushed())
    site.recommender.pushes.put_nowait(StreamFeedResponse(heartbeat=True))

    async with site.client.stream("GET", "/api/feed", params={"user": "u"}) as response:
        (name, push), (beat, _) = await server_events(response, 2)

    assert (name, beat) == ("feed", "beat")
    assert push["hops"] == [{"name": "folded", "ms": (3_500 - 1_000) / 1000}]
    assert (push["since_event_ms"], push["cause"]["item_id"]) == (48.2, "7")
    assert push["feed"]["items"][0]["title"] == EVIL
    assert push["feed"]["source"] == "coarse interests"
    assert push["feed"]["degraded_reason"] == "coarse interests"


async def test_a_question_that_will_never_be_answered_ends_the_stream(site):
    async with site.client.stream("GET", "/api/feed", params={"user": ""}) as response:
        events = await server_events(response, 2)

    assert [name for name, _ in events] == ["refused"]
    assert "user_id is empty" in events[0][1]["reason"]


async def test_a_number_that_is_none_is_refused(site):
    answer = await site.client.get("/api/feed", params={"user": "u", "n": "many"})

    assert answer.status_code == 400
    assert "give a number" in answer.json()["error"]


async def test_when_the_recommender_goes_away_the_page_is_told_and_the_stream_tries_again(site):
    site.recommender.pushes.put_nowait(pushed(sequence=1))
    site.recommender.pushes.put_nowait(None)
    site.recommender.pushes.put_nowait(pushed(sequence=2))

    async with site.client.stream("GET", "/api/feed", params={"user": "u"}) as response:
        events = await server_events(response, 3)

    assert [name for name, _ in events] == ["feed", "problem", "feed"]
    assert events[2][1]["sequence"] == 2


async def test_an_unreachable_gateway_is_said_in_words():
    async with web_server("127.0.0.1:1", "127.0.0.1:1") as url, httpx.AsyncClient() as client:
        answer = await client.post(f"{url}/api/events", json={"user": "u", "item": "1"})

    assert answer.status_code == 503
    assert answer.json() == {"error": "the gateway does not answer"}


async def test_a_path_that_is_not_served_is_a_404_in_words(site):
    answer = await site.client.get("/nope")

    assert (answer.status_code, answer.json()) == (404, {"error": "/nope: Not Found"})
