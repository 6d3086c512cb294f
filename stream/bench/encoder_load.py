"""`freshet bench worker`: what is left of the model's speed behind gRPC (design section 8).

Users with 2,048 events and some get events one by one; callers send prebuilt requests, each for
users of its own, the next one when the one before is answered. Users a second, against

    the bare model step on prebuilt batches, in a process of its own (encoder/bench/step.py)
    the same encoder that computes one user at a time       -> what batching gains
    the same encoder without caches, sent what it then lacks -> what caches gain
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc.aio
from rich.console import Console

from infra.bench import Result
from infra.grpc_server import CHANNEL_OPTIONS
from protos.errors import FreshetError
from protos.history import Shape
from protos.rec.v1.encoder_pb2 import (
    RESULT_STATUS_OK,
    ItemText,
    RefreshRequest,
    RefreshResponse,
    UserState,
)
from stream.bench.reader import (
    TENANT,
    Reader,
    compiled_folder,
    make_reader,
    trained_bundle,
)
from stream.encoder_client import EncoderClient
from stream.model_process import serve_bundle

N_USERS, N_CALLERS = 64, 8
N_TURNS, QUICK_TURNS = 48, 12
N_EVENTS, FIRST_OPEN = 2_048, 8
METHOD = "/rec.v1.EncoderService/Refresh"
BARS = {"share_of_bare_step": ">= 0.6", "batching_gain": ">= 3", "cache_gain": ">= 5"}
NO_CACHES = {"max_cached_user_bytes": 1, "max_cached_block_bytes": 1, "max_cached_items": 1}

Turns = Sequence[Sequence[bytes]]
"""By caller, then by turn: serialised requests."""

console = Console(stderr=True)


def worker(quick: bool) -> Result:
    bundle = trained_bundle()
    compiled = {"compile": True, "compiled_folder": compiled_folder()}
    n_turns = QUICK_TURNS if quick else N_TURNS
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as scratch, ExitStack() as stack:
        with console.status("starting three encoders; the first time, passes are compiled"):
            served, alone, bare = (
                stack.enter_context(serve_bundle(bundle, **compiled, **settings))
                for settings in ({}, {"max_batch_tokens": 1}, NO_CACHES)
            )
        rates = asyncio.run(_rates(Path(scratch), served, alone, bare, n_turns))
    with console.status("bare step"):
        step = _bare_step(bundle)
    figures = {
        "share_of_bare_step": round(rates["served"] / step, 3),
        "batching_gain": round(rates["served"] / rates["one by one"], 2),
        "cache_gain": round(rates["served"] / rates["without caches"], 2),
        "users_per_s": round(rates["served"]),
    }
    against = {"bare step": round(step)} | {name: round(one) for name, one in rates.items()}
    ok = (
        figures["share_of_bare_step"] >= 0.6
        and figures["batching_gain"] >= 3
        and figures["cache_gain"] >= 5
    )
    return Result(figures, against, BARS, ok)


async def _rates(
    folder: Path, served: str, alone: str, bare: str, n_turns: int
) -> dict[str, float]:
    """Return users a second of each encoder."""
    clients = {address: EncoderClient(address, Shape()) for address in (served, alone)}
    with console.status("encoding items"):
        reader, texts = await make_reader(folder, [served, alone])
    ways = [
        reader.way_to(f"way-{n}", one, by_blocks=True) for n, one in enumerate(clients.values())
    ]
    users = [f"u{place}" for place in range(N_USERS)]
    with console.status("growing histories"):
        for place, user in enumerate(users):
            reader.grow(user, N_EVENTS + FIRST_OPEN + place)
            for way in ways:
                await way.refresh(user)
    named, whole = _prebuilt(reader, ways[0].fill, users, texts, n_turns)
    rates = {}
    for name, address, turns in (
        ("served", served, named),
        ("one by one", alone, named),
        ("without caches", bare, whole),
    ):
        with console.status(f"load: {name}"):
            rates[name] = await _rate(address, turns)
    for client in clients.values():
        await client.close()
    for way in ways:
        way.close()
    reader.close()
    return rates


def _prebuilt(
    reader: Reader,
    fill: Callable[[UserState], None],
    users: Sequence[str],
    texts: dict[str, str],
    n_turns: int,
) -> tuple[Turns, Turns]:
    """Return requests that name what they can, and the same with all contents."""
    named: list[list[bytes]] = [[] for _ in range(N_CALLERS)]
    whole: list[list[bytes]] = [[] for _ in range(N_CALLERS)]
    for _ in range(n_turns):
        for caller in range(N_CALLERS):
            states = []
            for user in users[caller::N_CALLERS]:
                reader.grow(user, 1)
                states.append(reader.state(user))
            named[caller].append(RefreshRequest(users=states).SerializeToString())
            recent = {item.item_id for state in states for item in state.recent}
            items = [ItemText(tenant=TENANT, item_id=one, text=texts[one]) for one in recent]
            for state in states:
                fill(state)
            whole[caller].append(RefreshRequest(users=states, items=items).SerializeToString())
    return named, whole


async def _rate(address: str, callers: Turns) -> float:
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        # Bytes in, bytes out: this side shall cost little.
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

        async def go(turns: Sequence[bytes]) -> list[bytes]:
            return [await call(request, timeout=60) for request in turns]

        start = time.perf_counter()
        answers = await asyncio.gather(*map(go, callers))
        seconds = time.perf_counter() - start
    results = [
        result
        for of_caller in answers
        for answer in of_caller
        for result in RefreshResponse.FromString(answer).results
    ]
    wrong = [result for result in results if result.status != RESULT_STATUS_OK]
    if wrong:
        raise FreshetError(f"{len(wrong)} of {len(results)} users were not served: {wrong[0]}")
    return len(results) / seconds


def _bare_step(bundle: Path) -> float:
    """Return users a second without serving, in batches as large as the callers' together."""
    words = [str(bundle), str(N_USERS), str(compiled_folder())]
    command = [sys.executable, "-m", "encoder.bench.step", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        raise FreshetError("the bare step failed; its error stands above")
    return float(done.stdout)
