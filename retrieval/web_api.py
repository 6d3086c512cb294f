"""What the page asks for, answered by two gRPC services; see web.py for the list."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from json import JSONDecodeError

import grpc
import grpc.aio
from prometheus_client import Gauge
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from infra.channels import aio_channel
from protos.errors import InvalidInput, Overloaded
from protos.rec.v1.events_pb2 import Event, PublishRequest
from protos.rec.v1.events_pb2_grpc import EventServiceStub
from protos.rec.v1.recommend_pb2 import FeedQuery, GetUserRequest, ListUsersRequest
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from retrieval.feed_events import feed_events
from retrieval.page_errors import page_error
from retrieval.views import Json, user_view, users_view

DEADLINE_S = 5.0
MAX_STREAMS = 500
MAX_BODY_BYTES = 64 * 1024
N_FEED, N_PER_INTEREST, N_USERS = 20, 20, 30
EVENT_FIELDS = ("user", "item", "action", "recommendation", "event_id")

RECONNECT_SOON = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
"""grpc waits up to two minutes between attempts; the page looks again at once."""

STREAMS = Gauge("freshet_web_streams", "Feeds open on pages now.")


class PageApi:
    """The handlers; `feeds` and `gateway` are addresses."""

    def __init__(self, feeds: str, gateway: str, tenant: str) -> None:
        self._tenant = tenant
        self._channels = [aio_channel(address, RECONNECT_SOON) for address in (feeds, gateway)]
        self._recommender = RecommendServiceStub(self._channels[0])
        self._gateway = EventServiceStub(self._channels[1])
        self._n_streams = 0

    async def users(self, request: Request) -> dict[str, Json]:
        question = ListUsersRequest(
            tenant=self._tenant,
            prefix=request.query_params.get("prefix", ""),
            page_token=request.query_params.get("after", ""),
            page_size=N_USERS,
        )
        with _translated("the recommender"):
            return users_view(await self._recommender.ListUsers(question, timeout=DEADLINE_S))

    async def user(self, request: Request) -> dict[str, Json]:
        question = GetUserRequest(
            tenant=self._tenant,
            user_id=request.query_params.get("user", ""),
            n_items_per_interest=N_PER_INTEREST,
        )
        with _translated("the recommender"):
            return user_view(await self._recommender.GetUser(question, timeout=DEADLINE_S))

    async def publish(self, request: Request) -> dict[str, Json]:
        body = await _event_body(request)
        event = Event(
            # A page that tries again sends the id again: the event counts once.
            event_id=body["event_id"] or str(uuid.uuid4()),
            item_id=body["item"],
            action=body["action"],
            event_time_ms=time.time_ns() // 1_000_000,
            recommendation_id=body["recommendation"],
            scenario="page",
        )
        question = PublishRequest(tenant=self._tenant, user_id=body["user"], events=[event])
        with _translated("the gateway"):
            answer = await self._gateway.Publish(question, timeout=DEADLINE_S)
        if not answer.results[0].accepted:
            raise InvalidInput(answer.results[0].reason)
        receipt = answer.receipt
        return {
            "event_id": answer.results[0].event_id,
            "partition": receipt.partition,
            "offset": receipt.offset,
        }

    async def feed(self, request: Request) -> Response:
        if self._n_streams >= MAX_STREAMS:
            raise Overloaded(f"{self._n_streams} feeds are open on pages; close one")
        query = FeedQuery(
            tenant=self._tenant,
            user_id=request.query_params.get("user", ""),
            n=_number(request.query_params.get("n", str(N_FEED))),
            scenario="page",
            explain=True,
        )
        return EventSourceResponse(self._counted(query))

    async def _counted(self, query: FeedQuery) -> AsyncIterator[ServerSentEvent]:
        self._n_streams += 1
        STREAMS.set(self._n_streams)
        try:
            async for event in feed_events(self._recommender, query):
                yield event
        finally:
            self._n_streams -= 1
            STREAMS.set(self._n_streams)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        for channel in self._channels:
            await channel.close()


async def _event_body(request: Request) -> dict[str, str]:
    """Return the fields of an event. Raises InvalidInput for any other body."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise InvalidInput("send the event as application/json")
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise InvalidInput(f"the event has more than {MAX_BODY_BYTES} bytes")
    try:
        body = json.loads(raw)
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("the body is no JSON") from error
    if not isinstance(body, dict) or not all(
        isinstance(body.get(n, ""), str) for n in EVENT_FIELDS
    ):
        raise InvalidInput(f"send an object of strings: {', '.join(EVENT_FIELDS)}")
    return {name: body.get(name, "") for name in EVENT_FIELDS}


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InvalidInput(f"n is {text[:20]!r}; give a number")
    return int(text)


@contextmanager
def _translated(who: str) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise page_error(error, who) from error
