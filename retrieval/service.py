"""RecommendService: checks what came, asks the parts, answers. No logic of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import grpc.aio

from infra.grpc_server import Service
from protos.actions import actions_by_code
from protos.errors import InvalidInput, Overloaded, UnknownItem, UnknownUser
from protos.keys import checked_id, checked_tenant, compose_key
from protos.rec.v1.interests_pb2 import UserInterests
from protos.rec.v1.items_pb2 import Item
from protos.rec.v1.recommend_pb2 import (
    Feed,
    FeedQuery,
    GetUserRequest,
    GetUserResponse,
    InterestView,
    ListUsersRequest,
    ListUsersResponse,
    PreviewFeedRequest,
    PreviewFeedResponse,
    RecentEvent,
    RecommendNextRequest,
    RecommendNextResponse,
    RecommendRequest,
    RecommendResponse,
    SimilarItemsRequest,
    SimilarItemsResponse,
    Source,
    StreamFeedRequest,
    StreamFeedResponse,
    UserSummary,
)
from protos.rec.v1.recommend_pb2_grpc import (
    RecommendServiceServicer,
    add_RecommendServiceServicer_to_server,
)
from protos.vectors import embedding_vector
from retrieval.catalogue import Catalogue
from retrieval.changes import Changes
from retrieval.deadlines import Deadline
from retrieval.interests import Known, UserCache, user_key
from retrieval.live import LiveFeed
from retrieval.measures import OPEN_FEEDS, OVERLOADED, Impressions
from retrieval.open_feeds import OpenFeeds
from retrieval.pages import PageTokens
from retrieval.queries import (
    Query,
    Rules,
    SeenRule,
    checked_categories,
    checked_filter,
    checked_n,
    checked_preview,
    checked_query,
    checked_receipt,
    checked_session,
)
from retrieval.receipts import Receipts
from retrieval.recommend import Recommender
from retrieval.seen import LastSeen
from retrieval.turns import Turns

SERVICE_NAME = "rec.v1.RecommendService"
MAX_REQUEST_BYTES = 4 * 2**20
"""Most requests have a hundred bytes; 10,000 excluded ids of 256 bytes are 2.6 MB, and 2,000
candidates of a preview with 256 values 2.6 MB too."""
MAX_ITEMS_PER_INTEREST = 20
MAX_PAGE_SIZE = 1000
MAX_INTERVAL_MS = 60_000
FEEDS_AT_ONCE = 32
"""Of open streams; enough to share searches, and few enough that each has its own in time."""

Context = grpc.aio.ServicerContext[object, object]


@dataclass(frozen=True, slots=True)
class Limits:
    default_deadline_s: float = 2.0
    max_in_flight: int = 512
    max_open_feeds: int = 10_000
    n_partitions: int = 4
    seen_rules: Mapping[str, SeenRule] = field(default_factory=dict)


class RecommendServicer(RecommendServiceServicer):
    def __init__(
        self,
        users: UserCache,
        catalogue: Catalogue,
        recommender: Recommender,
        receipts: Receipts,
        changes: Changes,
        open_feeds: OpenFeeds,
        pages: PageTokens,
        limits: Limits,
    ) -> None:
        self._users, self._catalogue, self._recommender = users, catalogue, recommender
        self._receipts, self._changes, self._open_feeds = receipts, changes, open_feeds
        self._limits, self._pages, self._impressions = limits, pages, Impressions()
        self._rules = Rules(catalogue, limits.seen_rules)
        self._n_in_flight = 0
        self._closing = asyncio.Event()
        self._turns = Turns(FEEDS_AT_ONCE)
        self._open_keys: dict[bytes, int] = {}

    async def Recommend(self, request: RecommendRequest, context: Context) -> RecommendResponse:
        query = checked_query(request.query, self._rules)
        session = checked_session(request.session)
        deadline = self._deadline(context)
        with self._admitted():
            includes = True
            if request.HasField("after"):
                receipt = checked_receipt(request.after, query, self._limits.n_partitions)
                includes = await self._receipts.wait(query, receipt, deadline)
            answer = await self._recommender.feed(query, deadline, session=session)
        if not includes:
            _mark_stale(answer.feed)
        self._impressions.count(query.scenario, query.variant, len(answer.feed.items))
        return RecommendResponse(feed=self._begun(answer.feed, request.query))

    async def RecommendNext(
        self, request: RecommendNextRequest, context: Context
    ) -> RecommendNextResponse:
        tenant = checked_tenant(request.tenant)
        page = self._pages.read(request.page_token, tenant, request.user_id)
        query = checked_query(page.query, self._rules)
        query = replace(query, n=checked_n(request.n), hidden=page.hidden)
        with self._admitted():
            answer = await self._recommender.feed(query, self._deadline(context))
        feed = answer.feed
        feed.recommendation_id = page.recommendation_id
        self._impressions.count(query.scenario, query.variant, len(feed.items))
        if feed.items:
            feed.next_page_token = self._pages.next(page, _ids(feed))
        return RecommendNextResponse(feed=feed)

    async def StreamFeed(
        self, request: StreamFeedRequest, context: Context
    ) -> AsyncIterator[StreamFeedResponse]:
        query = checked_query(request.query, self._rules)
        if request.min_interval_ms > MAX_INTERVAL_MS:
            raise InvalidInput(f"min_interval_ms is {request.min_interval_ms}; at most 60,000")
        if len(self._open_feeds) >= self._limits.max_open_feeds:
            OVERLOADED.labels("feeds").inc()
            raise Overloaded(f"{len(self._open_feeds)} feeds are open; try another replica")
        feed = LiveFeed(
            query,
            self._users,
            self._recommender,
            self._changes,
            self._turns,
            min_interval_s=request.min_interval_ms / 1000,
            resume_token=request.resume_token,
        )
        before: set[str] = set()
        with self._counted(query):
            async for push in feed.pushes(self._closing):
                if push.HasField("feed"):
                    shown = set(_ids(push.feed))
                    self._impressions.count(query.scenario, query.variant, len(shown - before))
                    before = shown
                    self._begun(push.feed, request.query)
                yield push

    async def PreviewFeed(
        self, request: PreviewFeedRequest, context: Context
    ) -> PreviewFeedResponse:
        query = checked_preview(request, self._rules)
        vectors = {
            compose_key(query.tenant, one.item_id): embedding_vector(one.embedding)
            for one in request.candidates
        }
        known, closed = Known.of(request.state), LastSeen.of_closed(request.seen)
        with self._admitted():
            deadline = self._deadline(context)
            answer = await self._recommender.preview(query, known, closed, vectors, deadline)
        return PreviewFeedResponse(feed=answer.feed)

    async def SimilarItems(
        self, request: SimilarItemsRequest, context: Context
    ) -> SimilarItemsResponse:
        tenant = checked_tenant(request.tenant)
        item_id = checked_id(request.item_id, "item_id")
        categories = checked_categories(request.categories)
        where = checked_filter(request.filter, tenant, self._rules)
        query = Query(tenant, "", checked_n(request.n), categories, filter=where)
        item = self._catalogue.get(tenant, item_id)
        if item is None:
            raise UnknownItem(f"no item {item_id!r} in the catalogue; publish it with UpsertItems")
        with self._admitted():
            remaining_s = self._deadline(context).remaining_s()
            version, items = await self._recommender.similar(item, query, remaining_s)
        return SimilarItemsResponse(items=items, model_version=version)

    async def GetUser(self, request: GetUserRequest, context: Context) -> GetUserResponse:
        tenant = checked_tenant(request.tenant)
        user_id = checked_id(request.user_id, "user_id")
        if request.n_items_per_interest > MAX_ITEMS_PER_INTEREST:
            raise InvalidInput(
                f"n_items_per_interest is {request.n_items_per_interest}; at most "
                f"{MAX_ITEMS_PER_INTEREST}"
            )
        known = self._users.get(tenant, user_id)
        if known is None or known.state.erased:
            raise UnknownUser(f"nothing is known of user {user_id!r}; publish an event first")
        with self._admitted():
            views = await self._views(known, request.n_items_per_interest, context)
        state = known.state
        response = GetUserResponse(
            tenant=tenant,
            user_id=user_id,
            n_events=state.n_events,
            recent=self._recent(state),
            interests=views,
            applied_offset=state.applied_offset,
            encoded_offset=state.encoded_offset,
            partition=state.partition,
        )
        if state.HasField("interests"):
            response.vectors.CopyFrom(state.interests)
        return response

    async def ListUsers(self, request: ListUsersRequest, context: Context) -> ListUsersResponse:
        tenant = checked_tenant(request.tenant)
        if request.page_size > MAX_PAGE_SIZE:
            raise InvalidInput(f"page_size is {request.page_size}; at most {MAX_PAGE_SIZE:,}")
        size = request.page_size or 50
        users: list[UserSummary] = []
        for state in self._users.scan(tenant, request.prefix, request.page_token):
            if state.erased or state.n_events == 0:
                continue
            if len(users) == size:
                return ListUsersResponse(users=users, next_page_token=users[-1].user_id)
            users.append(_summary(state))
        return ListUsersResponse(users=users)

    async def close(self) -> None:
        """End the open feeds, so that a drain need not wait for them."""
        self._closing.set()
        self._turns.close()
        self._changes.announce(list(self._open_keys))

    def _deadline(self, context: Context) -> Deadline:
        remaining_s = context.time_remaining()
        return Deadline.after(remaining_s or self._limits.default_deadline_s)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._n_in_flight >= self._limits.max_in_flight:
            OVERLOADED.labels("requests").inc()
            raise Overloaded(f"{self._n_in_flight} requests are at work", retry_after_s=0.1)
        self._n_in_flight += 1
        try:
            yield
        finally:
            self._n_in_flight -= 1

    @contextmanager
    def _counted(self, query: Query) -> Iterator[None]:
        key = user_key(query.tenant, query.user_id)
        self._open_keys[key] = self._open_keys.get(key, 0) + 1
        try:
            with self._open_feeds.announced(query.tenant, query.user_id):
                OPEN_FEEDS.set(len(self._open_feeds))
                yield
        finally:
            OPEN_FEEDS.set(len(self._open_feeds))
            self._open_keys[key] -= 1
            if self._open_keys[key] == 0:
                del self._open_keys[key]

    def _begun(self, feed: Feed, query: FeedQuery) -> Feed:
        """Let RecommendNext continue a feed."""
        if feed.items:
            feed.next_page_token = self._pages.first(feed.recommendation_id, query, _ids(feed))
        return feed

    async def _views(self, known: Known, n: int, context: Context) -> list[InterestView]:
        timeout_s = self._deadline(context).remaining_s() / 2
        looks = await self._recommender.looks_of(known, n, timeout_s)
        views = []
        for interest, weight in enumerate(known.state.interests.weights):
            items = looks[interest] if looks else []
            views.append(InterestView(interest=interest, weight=weight, items=items))
        return views

    def _recent(self, state: UserInterests) -> list[RecentEvent]:
        names = actions_by_code()
        keys = [compose_key(state.tenant, recent.item_id) for recent in state.recent]
        events = []
        for recent, found in zip(state.recent, self._catalogue.get_many(keys), strict=True):
            item = Item(tenant=state.tenant, item_id=recent.item_id)
            events.append(
                RecentEvent(
                    item=found.item if found is not None else item,
                    action=names[recent.action].name if recent.action in names else "",
                    event_time_ms=recent.event_time_ms,
                )
            )
        return events[::-1]


def recommend_service(servicer: RecommendServicer) -> Service:
    return Service(
        SERVICE_NAME, lambda server: add_RecommendServiceServicer_to_server(servicer, server)
    )


def _ids(feed: Feed) -> list[str]:
    return [item.item_id for item in feed.items]


def _mark_stale(feed: Feed) -> None:
    feed.includes_receipt = False
    if feed.source in (Source.SOURCE_REFINED, Source.SOURCE_COARSE):
        feed.source = Source.SOURCE_LAST_KNOWN
    reason = "the deadline came before the receipt's event was encoded"
    feed.degraded_reason = "; ".join(filter(None, (reason, feed.degraded_reason)))


def _summary(state: UserInterests) -> UserSummary:
    last_ms = max((recent.event_time_ms for recent in state.recent), default=0)
    return UserSummary(user_id=state.user_id, n_events=state.n_events, last_event_time_ms=last_ms)
