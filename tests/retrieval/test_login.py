"""The page's door, asked by a real HTTP client."""

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn

from infra.api_keys import KeyFile, digest_of
from infra.settings import DoorSettings, SharedSettings
from protos.errors import NotReady
from retrieval.login import key_of
from retrieval.settings import WebSettings
from retrieval.web import build_app, serve
from tests.infra.certificates import Authority
from tests.retrieval.test_web import (
    FakeGateway,
    FakeRecommender,
    add_EventServiceServicer_to_server,
    add_RecommendServiceServicer_to_server,
    pushed,
    serving,
)

KEYS = "".join(
    f'[[key]]\nname = "{key}"\nsha256 = "{digest_of(key)}"\ntenants = ["{tenant}"]\n'
    for key, tenant in (("ours", "default"), ("theirs", "other"), ("own", "*"))
)


class Site:
    def __init__(self, url, path, recommender, client):
        self.url, self.path, self.recommender, self.client = url, path, recommender, client


@asynccontextmanager
async def page(tmp_path, **tls):
    path = tmp_path / "keys.toml"
    path.write_text(KEYS)
    recommender, gateway = FakeRecommender(), FakeGateway()
    async with (
        serving(add_RecommendServiceServicer_to_server, recommender, "r") as (_, feeds),
        serving(add_EventServiceServicer_to_server, gateway, "e") as (_, events),
    ):
        app = build_app(feeds, events, "default", KeyFile(path))
        config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1, **tls)
        server = uvicorn.Server(config)
        # Its own serve() would take over the signals of the test run.
        task = asyncio.create_task(server._serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has only this flag
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{port}", path, recommender
        recommender.pushes.put_nowait(None)
        server.should_exit = True
        await task


@pytest.fixture
async def site(tmp_path, monkeypatch):
    monkeypatch.setattr("infra.api_keys.LOOK_EVERY_S", 0.0)
    async with (
        page(tmp_path) as (url, path, recommender),
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        yield Site(url, path, recommender, client)


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/users", "/api/feed?user=u", "/nothing"])
async def test_nothing_is_shown_before_the_login(site, path):
    answer = await site.client.get(path)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert "API key as the password" in answer.json()["error"]
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("key", ["ours", "own"])
async def test_a_key_as_the_password_opens_the_page(site, key):
    for path in ("/", "/app.js", "/api/users"):
        assert (await site.client.get(path, auth=("anybody", key))).status_code == 200
    bearer = {"Authorization": f"Bearer {key}"}
    assert (await site.client.get("/api/users", headers=bearer)).status_code == 200


async def test_a_wrong_key_does_not(site):
    assert (await site.client.get("/", auth=("anybody", "wrong"))).status_code == 401
    assert (await site.client.get("/", auth=("ours", ""))).status_code == 401


async def test_a_key_of_another_tenant_is_not_for_this_page(site):
    answer = await site.client.get("/api/users", auth=("anybody", "theirs"))

    assert answer.status_code == 403
    assert "default" not in answer.text


async def test_no_event_is_published_without_a_login(site):
    event = {"user": "u", "item": "1", "action": "like"}

    assert (await site.client.post("/api/events", json=event)).status_code == 401
    answer = await site.client.post("/api/events", json=event, auth=("", "ours"))
    assert answer.status_code == 200


async def test_a_feed_that_is_open_ends_when_its_key_is_revoked(site):
    request = site.client.stream("GET", "/api/feed?user=u", auth=("", "ours"))
    async with request as response:
        lines = response.aiter_lines()
        site.recommender.pushes.put_nowait(pushed())
        while not (await anext(lines)).startswith("data:"):
            pass
        site.path.write_text(KEYS.replace(digest_of("ours"), digest_of("new")))
        site.recommender.pushes.put_nowait(pushed(2))
        rest = [line async for line in lines]

    assert not any(line.startswith("data:") for line in rest)


async def test_the_page_speaks_tls(tmp_path):
    authority = Authority(tmp_path / "ours")
    cert, key = authority.pair("page")
    context = ssl.create_default_context(cafile=authority.ca)
    async with (
        page(tmp_path, ssl_certfile=cert, ssl_keyfile=key) as (url, _, _),
        httpx.AsyncClient(base_url=url, verify=context) as client,
    ):
        assert (await client.get("/", auth=("", "ours"))).status_code == 200


async def test_a_page_beyond_loopback_refuses_to_start():
    settings = WebSettings(listen="0.0.0.0:0")

    with pytest.raises(NotReady, match="would let in whoever comes; set FRESHET_TLS_CERT and"):
        await serve(SharedSettings(), settings)


async def test_keys_that_cannot_be_read_fail_the_start_of_the_page(monkeypatch, tmp_path):
    monkeypatch.setenv("FRESHET_API_KEYS", str(tmp_path / "none.toml"))
    assert DoorSettings.load().api_keys is not None

    with pytest.raises(NotReady, match="FRESHET_API_KEYS"):
        await serve(SharedSettings(), WebSettings(listen="127.0.0.1:0"))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Basic " + base64.b64encode(b"name:k:k").decode(), "k:k"),
        ("basic " + base64.b64encode(b":k").decode(), "k"),
        ("Basic " + base64.b64encode(b"nocolon").decode(), ""),
        ("Basic !", ""),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), ""),
        ("Bearer k", "k"),
        ("Digest k", ""),
        ("", ""),
    ],
)
def test_the_key_is_the_password(header, key):
    assert key_of(header) == key
