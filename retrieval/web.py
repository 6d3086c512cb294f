"""The page: `python -m retrieval.web`. One user's history, interests and feed, alive.

It is a client like any other: it speaks gRPC to RecommendService and EventService, and knows
nothing else. A click on the page is a real event; the feed that it changes comes back on the open
stream.

    GET  /                       the page; its files stand beside it, all of them ours
    GET  /api/users?prefix=      known users, in the order of their ids
    GET  /api/user?user=         history and interests; 404 for a user nobody knows
    GET  /api/feed?user=&n=      server-sent events (feed_events.py)
    POST /api/events             {user, item, action, recommendation, event_id}: one event, which
                                 counts once, however often it is sent with the same event_id

Every refusal is {"error": a sentence}. A POST must be application/json, which another site's form
cannot send, and every answer forbids scripts from elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import structlog
import uvicorn
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.api_keys import KeyFile
from infra.doors import check_door
from infra.endpoints import Endpoints
from infra.metrics import serve_metrics
from infra.process import process
from infra.settings import DoorSettings, SharedSettings
from infra.tls import check_certificate
from protos.errors import FreshetError
from retrieval.login import Login
from retrieval.settings import WebSettings
from retrieval.views import Json
from retrieval.web_api import PageApi

log = structlog.get_logger(__name__)

DRAIN_S = 2

REQUESTS = Counter("freshet_web_requests_total", "Calls of the page.", ["path", "status"])

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_HTTP_OF_GRPC = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def build_app(feeds: str, gateway: str, tenant: str, keys: KeyFile | None = None) -> Starlette:
    """Return the web application; needs a running event loop.

    Args:
        feeds: address of RecommendService.
        gateway: address of EventService.
        keys: who may log in (login.py); None: whoever comes.
    """
    api = PageApi(feeds, gateway, tenant)
    routes = [
        Route("/api/users", _json(api.users)),
        Route("/api/user", _json(api.user)),
        Route("/api/events", _json(api.publish), methods=["POST"]),
        Route("/api/feed", api.feed),
        Mount("/", StaticFiles(packages=[("retrieval", "page")], html=True)),
    ]
    login = [Middleware(Login, keys=keys, tenant=tenant)] if keys else []
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guarded), *login],
        exception_handlers={FreshetError: _refused, HTTPException: _not_served},
        lifespan=api.lifespan,
    )


class Guarded:
    """Adds the headers that keep other sites out, and counts; an ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
                path = scope["path"] if scope["path"].startswith("/api/") else "page"
                REQUESTS.labels(path if message["status"] != 404 else "", message["status"]).inc()
            await send(message)

        await self._app(scope, receive, send_guarded)


def _json(
    answer: Callable[[Request], Awaitable[dict[str, Json]]],
) -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        return JSONResponse(await answer(request))

    return handler


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, FreshetError)
    return JSONResponse({"error": str(error)}, _HTTP_OF_GRPC.get(error.status, 500))


def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": f"{request.url.path}: {error.detail}"}, error.status_code)


async def serve(shared: SharedSettings, settings: WebSettings) -> None:
    """Serve until SIGTERM or SIGINT; open feeds are given two seconds to end."""
    endpoints = Endpoints.load(shared.state)
    host, _, port = settings.listen.rpartition(":")
    doors = DoorSettings.load()
    check_door(settings.listen, doors)
    check_certificate(doors)
    keys = KeyFile(doors.api_keys) if doors.api_keys else None
    config = uvicorn.Config(
        build_app(endpoints.retrieval, endpoints.gateway, settings.tenant, keys),
        host=host,
        port=int(port),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_certfile=doors.tls_cert,
        ssl_keyfile=doors.tls_key,
    )
    url = f"{doors.page_scheme}://{settings.listen}/"
    log.info("page_ready", address=url, feeds=endpoints.retrieval)
    await uvicorn.Server(config).serve()


def main() -> None:
    """Read settings, serve, drain on SIGTERM."""
    with process("web", WebSettings) as (shared, settings):
        stop_metrics = serve_metrics(settings.metrics_port)
        asyncio.run(serve(shared, settings))
        stop_metrics()


if __name__ == "__main__":
    main()
