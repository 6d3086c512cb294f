"""`freshet recommend USER` and `freshet watch USER`: a feed in the terminal, now or alive."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import grpc
import grpc.aio
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infra.channels import aio_channel
from infra.endpoints import Endpoints
from infra.grpc_errors import from_rpc_error
from infra.hops import hop_durations
from protos.rec.v1.recommend_pb2 import (
    Feed,
    FeedQuery,
    RecommendRequest,
    StreamFeedRequest,
    StreamFeedResponse,
)
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from retrieval.views import feed_view, push_view

DEADLINE_S = 10.0

_TEXTS = ("item", "title", "categories")

User = Annotated[str, typer.Argument(help="The user's id; one nobody knows sees what is trending.")]
Count = Annotated[int, typer.Option("-n", help="Items, 1 to 500.")]
Tenant = Annotated[str, typer.Option(help="The tenant.")]
Categories = Annotated[
    list[str] | None, typer.Option("--category", help="Only items in one of these; repeatable.")
]
Filter = Annotated[
    str,
    typer.Option("--filter", help="Only such items, as in 'price < 20 AND NOT sold_out'."),
]


def recommend(
    user: User,
    n: Count = 10,
    tenant: Tenant = "",
    category: Categories = None,
    where: Filter = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show a user's feed."""
    query = _query(tenant, user, n, category, where)
    feed = asyncio.run(_ask(query))
    if as_json:
        typer.echo(json.dumps(feed_view(feed), ensure_ascii=False))
    else:
        Console().print(feed_table(feed, f"Feed of {user}"))


def watch(
    user: User,
    n: Count = 15,
    tenant: Tenant = "",
    category: Categories = None,
    where: Filter = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a push.")] = False,
) -> None:
    """Watch a user's feed change as events arrive; Ctrl-C ends it."""
    query = _query(tenant, user, n, category, where)
    try:
        asyncio.run(_print_pushes(query) if as_json else _show_pushes(query, user))
    except KeyboardInterrupt:
        return


def _query(tenant: str, user: str, n: int, categories: list[str] | None, where: str) -> FeedQuery:
    return FeedQuery(
        tenant=tenant, user_id=user, n=max(0, n), categories=categories or [], filter=where
    )


async def _ask(query: FeedQuery) -> Feed:
    async with _recommender() as stub:
        response = await stub.Recommend(RecommendRequest(query=query), timeout=DEADLINE_S)
    feed: Feed = response.feed
    return feed


async def _print_pushes(query: FeedQuery) -> None:
    async for push in _pushes(query):
        typer.echo(json.dumps(push_view(push), ensure_ascii=False))


async def _show_pushes(query: FeedQuery, user: str) -> None:
    with Live(Text("waiting for the feed ..."), auto_refresh=False) as live:
        before: list[str] = []
        async for push in _pushes(query):
            live.update(_screen(push, user, before), refresh=True)
            before = [item.item_id for item in push.feed.items]


async def _pushes(query: FeedQuery) -> AsyncIterator[StreamFeedResponse]:
    async with _recommender() as stub:
        async for push in stub.StreamFeed(StreamFeedRequest(query=query)):
            if not push.heartbeat:
                yield push


@asynccontextmanager
async def _recommender() -> AsyncIterator[RecommendServiceStub]:
    address = Endpoints.load().retrieval
    async with aio_channel(address) as channel:
        try:
            yield RecommendServiceStub(channel)
        except grpc.aio.AioRpcError as error:
            where = f"the recommender at {address}"
            raise from_rpc_error(error, where) from error


def _screen(push: StreamFeedResponse, user: str, before: list[str]) -> RenderableType:
    at = time.strftime("%H:%M:%S")
    lines: list[RenderableType] = [feed_table(push.feed, f"Feed of {user}, {at}", before)]
    if push.since_event_ms > 0:
        hops = "  ".join(f"{name} {ms:.1f}" for name, ms in hop_durations(push.hops).items())
        words = Text.assemble((f"{push.since_event_ms:.0f} ms", "bold cyan"), f" = {hops}")
        lines.append(words)
    return Group(*lines)


def feed_table(feed: Feed, title: str, before: list[str] | None = None) -> Table:
    """Render a feed; with the ids shown before, also what moved."""
    view = feed_view(feed)
    caption = " · ".join(
        filter(None, (f"from {view['source']}", feed.model_version, feed.degraded_reason))
    )
    table = Table(title=Text(title), caption=Text(caption), title_justify="left")
    table.caption_justify = "left"
    names = ["#", "item", "title", "categories", "score", "interest"]
    for name in [*names, "moved"] if before is not None else names:
        table.add_column(name, justify="left" if name in _TEXTS else "right")
    for rank, item in enumerate(feed.items):
        moved = [_moved(item.item_id, rank, before)] if before is not None else []
        table.add_row(
            str(rank + 1),
            Text(item.item_id),
            Text(item.title),
            Text(", ".join(item.categories), style="dim"),
            f"{item.score:.3g}",
            str(item.interest + 1) if item.interest >= 0 else "",
            *moved,
        )
    return table


def _moved(item_id: str, rank: int, before: list[str]) -> Text:
    if not before:
        return Text("")
    if item_id not in before:
        return Text("new", style="bold cyan")
    by = before.index(item_id) - rank
    if by == 0:
        return Text("")
    return Text(f"↑ {by}", style="green") if by > 0 else Text(f"↓ {-by}", style="dim")
