"""`freshet demo`: the whole way once, on real parts, with one event seen to change one feed.

Fetches MovieLens-100K, trains a model unless there is one, starts the stack, replays the first half
of the data, then publishes one `like` as a user whose feed is being watched, and shows the feed
before and after with the milliseconds between. It is a proof, so it fails unless the vectors
changed, unseen items moved, and the pushed feed names this very event as its cause.
"""

import asyncio
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import grpc.aio
import pyarrow.compute as pc
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra import datasets
from infra.channels import aio_channel
from infra.endpoints import Endpoints
from infra.hops import hop_durations
from infra.settings import DoorSettings, SharedSettings
from infra.witness import Push, moved_items, publish, watch_feed
from protos.errors import FreshetError, TooLate
from protos.rec.v1 import recommend_pb2, recommend_pb2_grpc

DATA = "ml-100k"
REPLAYED = 0.5
"""Share of the data, by time, that is history when the demonstration begins."""
FEED_SIZE = 20
CATCH_UP_S = 300.0

console = Console()


@dataclass(frozen=True, slots=True)
class Person:
    """The user that the demonstration watches."""

    user_id: str
    n_events: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one event did to one feed."""

    before: Push
    after: Push
    item_id: str
    event_id: str
    have_vectors_changed: bool

    @property
    def moved(self) -> list[str]:
        return moved_items(self.before.item_ids, self.after.item_ids, self.item_id)

    def failures(self) -> list[str]:
        """Return what is missing from the proof; empty when it holds."""
        cause = self.after.response.cause.event_id
        checks = {
            "the interest vectors did not change": self.have_vectors_changed,
            "no unseen item moved": bool(self.moved),
            f"the pushed feed names {cause!r} as its cause, not {self.event_id!r}": (
                cause == self.event_id
            ),
        }
        return [what for what, holds in checks.items() if not holds]


def demo(
    once: Annotated[bool, typer.Option(help="Show the change, stop everything, exit.")] = False,
    retrain: Annotated[bool, typer.Option(help="Train even if there is a bundle.")] = False,
) -> None:
    """Train, start everything, and watch one event change a feed."""
    state = SharedSettings().state
    freshet("data", "fetch", DATA)
    if retrain or not (state / "bundle" / "config.json").exists():
        freshet("train", DATA)
    else:
        console.print(f"model: the bundle in {state / 'bundle'} (train anew: --retrain)")
    was_up = _run("status", "--json", quiet=True) == 0
    try:
        start_stack()
        endpoints = Endpoints.load()
        person = _chosen_person()
        _fill(person)
        change = asyncio.run(_demonstrate(endpoints, person))
        _show(change)
        if missing := change.failures():
            raise FreshetError(f"the proof failed: {'; '.join(missing)}")
        page = f"{DoorSettings.load().page_scheme}://{endpoints.web}/"
        console.print(f"\n[bold]The page:[/] {page}\n")
        if not once:
            _wait_for_interrupt()
    finally:
        if not was_up:
            freshet("down")


def start_stack() -> None:
    """Bring the stack up, unless it is; what was started ends with this process, even by a kill."""
    freshet("up", "--detach", "--owner", str(os.getpid()))


def freshet(*words: str) -> None:
    """Run a subcommand; its own words go to the terminal. Raises FreshetError when it fails."""
    console.print(f"[dim]$ freshet {' '.join(words)}[/]")
    if _run(*words) != 0:
        raise FreshetError(f"`freshet {' '.join(words)}` failed; its message stands above")


def _run(*words: str, quiet: bool = False) -> int:
    command = [str(Path(sys.executable).with_name("freshet")), *words]
    return subprocess.run(command, check=False, capture_output=quiet).returncode


def _chosen_person() -> Person:
    """Choose the user with the longest history under 200 events in the replayed part."""
    events = datasets.load(DATA).events.sort_by("event_time_ms")
    counts = pc.value_counts(events.slice(0, int(len(events) * REPLAYED))["user_id"]).to_pylist()
    people = [Person(count["values"], count["counts"]) for count in counts]
    return max(
        (person for person in people if person.n_events < 200),
        key=lambda person: (person.n_events, person.user_id),
    )


def _fill(person: Person) -> None:
    """Replay the data, unless an earlier demonstration in this state folder did."""
    address = Endpoints.load().retrieval
    n_known = asyncio.run(_n_events(address, person.user_id))
    if n_known >= person.n_events:
        console.print(f"data: user {person.user_id} already has {n_known} events; not replayed")
        return
    freshet("replay", DATA, "--flat-out", "--until", str(REPLAYED))


async def _n_events(address: str, user_id: str) -> int:
    async with aio_channel(address) as channel:
        found = await _user(channel, user_id)
        return found.n_events if found is not None else 0


async def _user(channel: grpc.aio.Channel, user_id: str) -> recommend_pb2.GetUserResponse | None:
    stub = recommend_pb2_grpc.RecommendServiceStub(channel)
    request = recommend_pb2.GetUserRequest(user_id=user_id)
    try:
        response: recommend_pb2.GetUserResponse = await stub.GetUser(request, timeout=10)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
    return response


async def _demonstrate(endpoints: Endpoints, person: Person) -> Change:
    async with aio_channel(endpoints.retrieval) as feeds, aio_channel(endpoints.gateway) as gateway:
        with console.status(f"waiting until the history of user {person.user_id} is served"):
            await _wait_until_served(feeds, person)
        vectors = await _vectors(feeds, person.user_id)
        async with watch_feed(feeds, person.user_id, n=FEED_SIZE) as watch:
            before = await watch.first(deadline_s=10)
            item_id = before.item_ids[-1]
            receipt, event_id = await publish(gateway, person.user_id, item_id, "like")
            after = await watch.including(receipt.offset, deadline_s=30)
        changed = vectors != await _vectors(feeds, person.user_id)
        return Change(before, after, item_id, event_id, changed)


async def _wait_until_served(channel: grpc.aio.Channel, person: Person) -> None:
    """Return when the user's whole history is in refined vectors and a full feed comes of them."""
    stub = recommend_pb2_grpc.RecommendServiceStub(channel)
    query = recommend_pb2.FeedQuery(user_id=person.user_id, n=FEED_SIZE)
    request = recommend_pb2.RecommendRequest(query=query)
    try:
        async with asyncio.timeout(CATCH_UP_S):
            while True:
                user = await _user(channel, person.user_id)
                if user is not None and user.n_events >= person.n_events:
                    feed = (await stub.Recommend(request, timeout=10)).feed
                    is_refined = feed.source == recommend_pb2.SOURCE_REFINED
                    is_full = len(feed.items) == FEED_SIZE
                    if is_refined and is_full and user.encoded_offset == user.applied_offset:
                        return
                await asyncio.sleep(0.3)
    except TimeoutError as error:
        raise TooLate(
            f"user {person.user_id} was not served within {CATCH_UP_S:.0f} s; "
            "`freshet status` and `freshet logs` tell which process lags"
        ) from error


async def _vectors(channel: grpc.aio.Channel, user_id: str) -> bytes:
    user = await _user(channel, user_id)
    return user.vectors.vectors if user is not None else b""


def _show(change: Change) -> None:
    titles = {
        item.item_id: escape(item.title)
        for push in (change.before, change.after)
        for item in push.response.feed.items
    }
    moved = set(change.moved)
    table = Table("", "before", "after", title=f"liked: {titles[change.item_id]}")
    rows = zip(change.before.item_ids, change.after.item_ids, strict=False)
    for rank, (old, new) in enumerate(rows, start=1):
        style = "bold green" if new in moved else ""
        table.add_row(
            str(rank), titles[old], f"[{style}]{titles[new]}[/]" if style else titles[new]
        )
    console.print(table)
    response = change.after.response
    hops = hop_durations(response.hops, received_us=change.after.received_us)
    console.print(", ".join(f"{name} {ms:.1f} ms" for name, ms in hops.items()))
    total_ms = change.after.received_us / 1000 - response.cause.accepted_ms
    console.print(
        f"[bold]{total_ms:.0f} ms[/] from the event in Kafka to the changed feed; "
        f"{len(moved)} of {len(change.after.item_ids)} places hold another unseen item."
    )


def _wait_for_interrupt() -> None:
    console.print("Everything stays up until Ctrl-C.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("stopping")
