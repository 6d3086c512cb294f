"""With the key of one tenant no answer of RecommendService holds another's items or users.

Tenant b's titles, categories and own ids say "secret"; else its users and items have the same ids
as tenant a's. Requests are random, of all methods, in all mixtures of tenants; pages are begun by
both.
"""

import asyncio
import itertools
from contextlib import suppress

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import MessageToJson
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.api_keys import digest_of
from infra.channels import aio_channel
from infra.grpc_server import GrpcServer
from infra.settings import DoorSettings
from protos.keys import compose_key
from protos.rec.v1.events_pb2 import Event, Receipt
from protos.rec.v1.interests_pb2 import SeenSegment, TrendingItem, TrendingList, UserInterests
from protos.rec.v1.recommend_pb2 import (
    DESCRIPTOR,
    FeedQuery,
    GetUserRequest,
    ListUsersRequest,
    PreviewFeedRequest,
    RecommendNextRequest,
    RecommendRequest,
    SimilarItemsRequest,
    StreamFeedRequest,
)
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from retrieval.service import recommend_service
from tests.retrieval.retrieval_world import World, interests, item_vector, recent, state, unit

X = unit(1, 0, 0, 0)
METHODS = [method.name for method in DESCRIPTOR.services_by_name["RecommendService"].methods]
TENANTS = st.sampled_from(["a", "a", "a", "b", ""])
USERS = st.sampled_from(["u", "u", "secret-u", "nobody"])
ITEMS = st.sampled_from(["x0", "x1", "secret-x"])
QUERIES = st.builds(
    FeedQuery,
    tenant=TENANTS,
    user_id=USERS,
    n=st.integers(1, 9),
    categories=st.sampled_from([[], [], ["all"], ["secret"]]),
    explain=st.booleans(),
)


def given_state(query):
    made = state(query.user_id, 3, interests(X), recent=[recent("x0")])
    made.tenant = query.tenant
    return made


def requests(tokens):
    """Draw requests of all methods, most of them valid."""
    sessions = st.sampled_from([[], [Event(item_id="x0", action="click")]])
    receipts = st.none() | st.builds(Receipt, tenant=TENANTS, user_id=USERS)
    previews = st.builds(
        lambda query, tenant, seen: PreviewFeedRequest(
            query=query,
            state=UserInterests(tenant=tenant) if tenant == "b" else given_state(query),
            seen=[SeenSegment(tenant=seen)],
        ),
        QUERIES,
        TENANTS,
        TENANTS,
    )
    return st.one_of(
        st.builds(RecommendRequest, query=QUERIES, session=sessions, after=receipts),
        st.builds(
            RecommendNextRequest,
            tenant=TENANTS,
            user_id=USERS,
            page_token=st.sampled_from(tokens),
            n=st.integers(1, 9),
        ),
        st.builds(StreamFeedRequest, query=QUERIES),
        previews,
        st.builds(SimilarItemsRequest, tenant=TENANTS, item_id=ITEMS, n=st.integers(1, 9)),
        st.builds(GetUserRequest, tenant=TENANTS, user_id=USERS, n_items_per_interest=st.just(3)),
        st.builds(ListUsersRequest, tenant=TENANTS, prefix=st.sampled_from(["", "s", "u"])),
    )


class Apart:
    """A server with two tenants, on a loop of its own."""

    def __init__(self, folder):
        self.folder, self.runner = folder, asyncio.Runner()

    def __enter__(self):
        self.runner.run(self._start())
        return self

    def __exit__(self, *failure):
        self.runner.run(self._stop())
        self.runner.close()

    async def _start(self):
        self.world = World(self.folder)
        for tenant, word in (("a", "plain"), ("b", "secret"), ("default", "secret")):
            self._fill(tenant, word)
        path = self.folder / "keys.toml"
        path.write_text(
            f'[[key]]\nname = "a"\nsha256 = "{digest_of("a")}"\ntenants = ["a"]\n'
            f'[[key]]\nname = "o"\nsha256 = "{digest_of("o")}"\ntenants = ["*"]\n'
        )
        service = recommend_service(self.world.servicer)
        self.server = GrpcServer("127.0.0.1:0", [service], doors=DoorSettings(api_keys=path))
        address = f"127.0.0.1:{await self.server.start()}"
        self.channels = {
            key: aio_channel(address, doors=DoorSettings(api_key=key)) for key in ("a", "o")
        }
        self.tokens = [await self._token(tenant) for tenant in ("a", "a", "b")]

    def _fill(self, tenant, word):
        world = self.world
        for item_id in ("x0", "x1", "x2", f"{word}-x"):
            message = item_vector(item_id, X, categories=["all", word])
            message.item.tenant, message.item.title = tenant, f"{word} title"
            key = compose_key(tenant, item_id)
            world.index.items[key] = message
            world.catalogue.apply("items", [world.record(key, message)])
        for user_id in ("u", f"{word}-u"):
            user = state(user_id, 7, interests(X), recent=[recent(f"{word}-x")])
            user.tenant = tenant
            world.add_user(user)
        for category in ("", "all", word):
            items = [TrendingItem(item_id=one, score=1.0) for one in ("x2", f"{word}-x")]
            trending = TrendingList(tenant=tenant, category=category, items=items)
            key = compose_key(tenant, category)
            world.trending.apply("trending", [world.record(key, trending)])

    async def _token(self, tenant):
        query = FeedQuery(tenant=tenant, user_id="u", n=1)
        stub = RecommendServiceStub(self.channels["o"])
        return (await stub.Recommend(RecommendRequest(query=query), timeout=5)).feed.next_page_token

    def ask(self, request, key="a"):
        return self.runner.run(self._ask(request, key))

    async def _ask(self, request, key):
        """Return the answer, of a stream the first; None for a refusal."""
        name = type(request).__name__.removesuffix("Request")
        call = getattr(RecommendServiceStub(self.channels[key]), name)(request, timeout=5)
        with suppress(grpc.aio.AioRpcError):
            if name != "StreamFeed":
                return await call
            first = await call.read()
            call.cancel()
            return first
        return None

    async def _stop(self):
        await asyncio.gather(*(channel.close() for channel in self.channels.values()))
        await self.world.servicer.close()
        await self.server.stop(0)
        self.world.store.close()


@pytest.fixture
def apart(tmp_path):
    with Apart(tmp_path) as made:
        yield made


def test_no_answer_for_one_tenant_holds_what_is_anothers(apart):
    answered = dict.fromkeys(METHODS, 0)

    @settings(max_examples=400)
    @given(requests(apart.tokens))
    def check(request):
        answer = apart.ask(request)

        if answer is not None:
            answered[type(request).__name__.removesuffix("Request")] += 1
            assert "secret" not in MessageToJson(answer)

    check()
    assert all(answered.values()), answered


def test_the_same_questions_would_find_it_with_a_key_for_all(apart):
    query = FeedQuery(tenant="b", user_id="u", n=3)
    questions = [
        RecommendRequest(query=query),
        StreamFeedRequest(query=query),
        PreviewFeedRequest(query=query, state=given_state(query)),
        SimilarItemsRequest(tenant="b", item_id="x0", n=3),
        GetUserRequest(tenant="b", user_id="u"),
        ListUsersRequest(tenant="b"),
        RecommendNextRequest(tenant="b", user_id="u", n=3, page_token=apart.tokens[2]),
    ]

    for question, key in itertools.product(questions, ("o", "a")):
        answer = apart.ask(question, key)
        assert (answer is not None and "secret" in MessageToJson(answer)) is (key == "o"), question
