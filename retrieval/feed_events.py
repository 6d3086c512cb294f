"""A feed as server-sent events: what a StreamFeed pushes, and in words what keeps it away."""

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from sse_starlette import ServerSentEvent

from protos.errors import InvalidInput
from protos.rec.v1.recommend_pb2 import FeedQuery, StreamFeedRequest
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from retrieval.page_errors import page_error
from retrieval.views import Json, push_view

RETRY_S = 1.0


async def feed_events(
    stub: RecommendServiceStub, query: FeedQuery, *, retry_s: float = RETRY_S
) -> AsyncIterator[ServerSentEvent]:
    """Yield "feed" and "beat" events; "problem" while the recommender is away, and "refused", as
    the last one, for a question that it will never answer."""
    request = StreamFeedRequest(query=query, min_interval_ms=50)
    while True:
        try:
            async for push in stub.StreamFeed(request):
                if push.heartbeat:
                    yield _event("beat", {})
                else:
                    yield _event("feed", push_view(push))
            problem = "the recommender ended the stream; trying again"
        except grpc.aio.AioRpcError as error:
            failure = page_error(error, "the recommender")
            problem = str(failure)
            if isinstance(failure, InvalidInput):
                yield _event("refused", {"reason": problem})
                return
        yield _event("problem", {"reason": problem})
        await asyncio.sleep(retry_s)


def _event(name: str, body: dict[str, Json]) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=json.dumps(body, ensure_ascii=False))
