"""What stands behind the page in a browser's tests: users as the test says, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import expect

from infra.grpc_server import GrpcServer, Service
from protos.errors import DependencyDown, UnknownUser
from protos.rec.v1.events_pb2 import EventResult, PublishResponse, Receipt
from protos.rec.v1.events_pb2_grpc import (
    EventServiceServicer,
    add_EventServiceServicer_to_server,
)
from protos.rec.v1.interests_pb2 import Cause, Hop
from protos.rec.v1.items_pb2 import Item
from protos.rec.v1.recommend_pb2 import (
    Explanation,
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
from tests.retrieval.test_web import web_server

HOPS = ("accepted", "folded", "requested", "encoded", "published", "received", "searched", "pushed")
NOW_MS = 1_700_000_000_000


def film(item_id, *categories, title="", interest=0, because=(), source=0):
    """Return an item of a feed; its title is the item_id unless another is given."""
    return ScoredItem(
        item_id=item_id,
        title=title or item_id.capitalize(),
        categories=categories,
        score=0.5,
        interest=interest,
        explanation=Explanation(because_item_ids=because, source=source),
    )


class FakeRecommender(RecommendServiceServicer):
    """Knows `users`; every open feed gets what `push` says, and first the newest push."""

    def __init__(self):
        self.users: dict[str, GetUserResponse] = {}
        self.newest = feed_of([])
        self.streams: list[tuple[str, asyncio.Queue[StreamFeedResponse]]] = []
        self.questions: list[str] = []

    def push(self, push):
        self.newest = push
        for _, queue in self.streams:
            queue.put_nowait(push)

    async def ListUsers(self, request, context):
        self.questions.append(request.prefix)
        known = sorted(name for name in self.users if name.startswith(request.prefix))
        users = [UserSummary(user_id=n, n_events=self.users[n].n_events) for n in known]
        return ListUsersResponse(users=users)

    async def GetUser(self, request, context):
        if request.user_id not in self.users:
            raise UnknownUser("nothing is known of this user")
        return self.users[request.user_id]

    async def StreamFeed(self, request, context):
        one = (request.query.user_id, asyncio.Queue())
        self.streams.append(one)
        try:
            first = StreamFeedResponse(feed=self.newest.feed)
            yield first
            while True:
                yield await one[1].get()
        finally:
            self.streams.remove(one)


class FakeGateway(EventServiceServicer):
    """Accepts every event, at offsets from 0; `gate`, when closed, lets answers wait, and answers
    that `are_lost` never come although the event was taken."""

    def __init__(self):
        self.events = []
        self.are_lost = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def Publish(self, request, context):
        event = request.events[0]
        self.events.append((request.user_id, event))
        await self.gate.wait()
        if self.are_lost:
            raise DependencyDown("Kafka does not answer")
        result = EventResult(event_id=event.event_id, accepted=True)
        return PublishResponse(results=[result], receipt=Receipt(offset=len(self.events) - 1))


def feed_of(items, *, cause=None, offset=-1, source=Source.SOURCE_REFINED, reason=""):
    """Return a push; `cause` is the event, as the gateway had it, that the feed includes."""
    feed = Feed(recommendation_id="r", items=items, source=source, encoded_offset=offset)
    feed.degraded_reason = reason
    push = StreamFeedResponse(feed=feed)
    if cause is not None:
        push.cause.CopyFrom(Cause(event_id=cause.event_id, item_id=cause.item_id, offset=offset))
        push.hops.extend(Hop(name=name, at_us=5_000 * at) for at, name in enumerate(HOPS))
        push.since_event_ms = 5.0 * (len(HOPS) - 1)
    return push


def person(name, *recent, interests=()):
    """Return a user; `recent` are (item_id, action), newest first, `interests` lists of items."""
    events = [
        RecentEvent(
            item=Item(item_id=item_id, title=item_id.capitalize()),
            action=action,
            event_time_ms=NOW_MS - 1000 * at,
        )
        for at, (item_id, action) in enumerate(recent)
    ]
    views = [
        InterestView(interest=at, weight=(3 - at) / 4, items=items)
        for at, items in enumerate(interests)
    ]
    return GetUserResponse(user_id=name, n_events=len(events), recent=events, interests=views)


class PageWorld:
    """The page's server between a recommender and a gateway that can go away and come back."""

    def __init__(self):
        self.recommender, self.gateway = FakeRecommender(), FakeGateway()
        self.url = ""
        self._ports = {"recommender": 0, "gateway": 0}
        self._servers: dict[str, GrpcServer] = {}

    async def start(self, name):
        add, servicer = {
            "recommender": (add_RecommendServiceServicer_to_server, self.recommender),
            "gateway": (add_EventServiceServicer_to_server, self.gateway),
        }[name]
        server = GrpcServer(
            f"127.0.0.1:{self._ports[name]}", [Service(name, lambda one: add(servicer, one))]
        )
        self._ports[name] = await server.start()
        self._servers[name] = server
        return f"127.0.0.1:{self._ports[name]}"

    async def stop(self, name):
        if name in self._servers:
            await self._servers.pop(name).stop(0)

    def at(self, user):
        return f"{self.url}/?user={user}"


@asynccontextmanager
async def page_world() -> AsyncIterator[PageWorld]:
    world = PageWorld()
    try:
        feeds, gateway = await world.start("recommender"), await world.start("gateway")
        async with web_server(feeds, gateway) as world.url:
            yield world
    finally:
        await world.stop("recommender")
        await world.stop("gateway")


def titles(page):
    return page.locator("#feed .title").all_text_contents()


async def until(is_so):
    """Wait until something is so of the fakes, which have no condition to wait for."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def published(world, n=1):
    """Return the events once the gateway has had n."""
    await until(lambda: len(world.gateway.events) >= n)
    return [event for _, event in world.gateway.events]


async def like_and_follow(world, page, item="fargo"):
    """Like an item; answer with a feed that lacks it, has a new one on top, and another order."""
    await page.locator(f'[data-item="{item}"] [data-action="like"]').click()
    event = (await published(world))[-1]
    world.recommender.users["ada"] = person(
        "ada", (item, "like"), ("heat", "like"), interests=[[film("alien", "Sci-Fi")]]
    )
    world.recommender.push(
        feed_of([film("network"), film("brazil"), film("alien")], cause=event, offset=0)
    )
    await expect(page.locator("#total")).to_have_text("35")
    return event
