"""`freshet user USER`: what the log says of a user, at any point, by any model."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import grpc
import grpc.aio
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from infra.channels import aio_channel
from infra.endpoints import Endpoints
from infra.grpc_errors import from_rpc_error
from infra.kafka_log import open_log
from infra.kafka_topics import Topics, user_partition
from infra.settings import SharedSettings
from protos.errors import FreshetError, InvalidInput
from protos.history import Shape
from protos.keys import checked_id, checked_tenant
from protos.rec.v1.interests_pb2 import UserInterests
from protos.rec.v1.recommend_pb2 import Candidate, FeedQuery, PreviewFeedRequest
from protos.rec.v1.recommend_pb2_grpc import RecommendServiceStub
from stream.encoder_client import EncoderClient
from stream.folding import LogRecord
from stream.model_process import serve_bundle
from stream.past import fold_past, interests_of
from stream.past_items import PastItems
from stream.user_view import Found, print_found, record_of

N_CANDIDATES = 2_000
FEED_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Point:
    """Where the past ends: after an offset, or at a moment."""

    offset: int | None = None
    moment_ms: int | None = None


def user(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")],
    at: Annotated[
        str | None, typer.Option(help="After this offset, or at this moment (ISO 8601).")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Ask the model of this bundle; by default the serving one.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="The tenant.")] = "default",
    last: Annotated[int, typer.Option(min=0, help="Events to show, newest first.")] = 10,
    n: Annotated[int, typer.Option("-n", min=1, max=500, help="Items of the feed.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fold a user's history from the log, up to any point, and show what it makes of the feed.

    Without --at: as it is now. Items are as the catalogue has them today. Where the encoder or the
    recommender is away, what can be shown is shown, the reason is told, and the exit code is 1.
    """
    # Errors reach the user as ours; the client's own words on the way there would only repeat them.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    user_id, tenant, point = checked_id(user_id, "USER"), checked_tenant(tenant), parse_point(at)
    console = Console(stderr=True)
    found = _read(tenant, user_id, point, console)
    if found.past.user.head.n_events:
        _ask(found, model, n, console)
    if as_json:
        print(json.dumps(record_of(found, last), ensure_ascii=False))
    else:
        print_found(found, last)
    if found.problems:
        raise typer.Exit(1)


def parse_point(text: str | None) -> Point:
    """Read --at. Raises InvalidInput."""
    if text is None:
        return Point()
    if text.lstrip("-").isdigit():
        return Point(offset=int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"--at {text!r} is neither an offset nor an ISO moment") from error
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return Point(moment_ms=round(moment.timestamp() * 1000))


def _read(tenant: str, user_id: str, point: Point, console: Console) -> Found:
    bootstrap, topics = Endpoints.load().kafka_bootstrap, Topics(SharedSettings().topic_prefix)
    with open_log(bootstrap, topics.events) as log:
        number = user_partition(tenant, user_id, len(log.partitions))
        begins, ends = log.bounds()
        begin, end = begins.get(number, 0), ends.get(number, 0)
        if point.offset is not None:
            if not begin <= point.offset < end:
                held = f"holds offsets {begin} to {end - 1}" if begin < end else "is empty"
                raise InvalidInput(f"--at {point.offset}: partition {number} of the log {held}")
            end = point.offset + 1
        records = log.read({number: begin}, {number: end}) if begin < end else iter(())
        if point.moment_ms is not None:
            moment_ms = point.moment_ms
            records = takewhile(lambda record: record.timestamp <= moment_ms, records)
        with _progress(console, "folding records", end - begin) as advance:
            watched = _counted(records, advance)
            past = fold_past(watched, number, len(log.partitions), tenant, user_id)
    with (
        console.status("reading the catalogue"),
        open_log(bootstrap, topics.item_vectors) as vectors,
    ):
        items = PastItems(vectors.read(), tenant)
    return Found(past, items, number, begin)


def _ask(found: Found, bundle: Path | None, n: int, console: Console) -> None:
    with ExitStack() as stack:
        address = Endpoints.load().encoder
        try:
            if bundle is not None:
                with console.status(f"starting an encoder for {bundle}"):
                    address = stack.enter_context(serve_bundle(bundle))
            asyncio.run(_ask_encoder(found, address, console))
            if found.state is not None:
                asyncio.run(_ask_recommender(found, found.state, n, by_index=bundle is None))
        except FreshetError as error:
            found.problems.append(str(error))


async def _ask_encoder(found: Found, address: str, console: Console) -> None:
    shape = Shape()
    encoder = EncoderClient(address, shape)
    try:
        model = found.model = await encoder.model()
        n_lacking = len(found.items.lacking(model))
        with _progress(console, "encoding items", n_lacking) as advance:
            await found.items.fill(encoder, model, advance)
        catalogue = found.items.catalogue(shape.n_levels)
        found.state = await interests_of(found.past, encoder, model, catalogue)
    finally:
        await encoder.close()


async def _ask_recommender(found: Found, state: UserInterests, n: int, *, by_index: bool) -> None:
    address = Endpoints.load().retrieval
    query = FeedQuery(tenant=found.past.tenant, user_id=found.past.user_id, n=n)
    request = PreviewFeedRequest(query=query, state=state, seen=found.past.seen())
    if not by_index:  # its items are in no index
        for key, embedding in found.nearest(N_CANDIDATES):
            request.candidates.append(Candidate(item_id=found.item_id(key), embedding=embedding))
    async with aio_channel(address) as channel:
        try:
            stub = RecommendServiceStub(channel)
            response = await stub.PreviewFeed(request, timeout=FEED_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, f"the recommender at {address}") from error
    found.feed = response.feed


def _counted(records: Iterable[LogRecord], advance: Callable[[int], None]) -> Iterator[LogRecord]:
    for record in records:
        advance(1)
        yield record


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)
