"""`freshet bench worker`: what is left of the model's speed behind gRPC (design section 8).

Users with 2,048 events and some get events one by one; callers send prebuilt requests, each for
users of its own, the next one when the one before is answered. Users a second, against

    the bare model step on prebuilt batches as large as the worker's, in a process of its own, with
        as many windows cut back as the requests have (encoder/bench/step.py)
    the same encoder that computes one user at a time       -> what batching gains
    the same encoder without caches, sent what it then lacks -> what caches gain

Beside them: the most users a second of each tier whose 99th percentile stays under 50 ms, asked for
one at a time by more and more callers; and what a worker keeps of an active user.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track

from infra.bench import Result
from protos.errors import FreshetError
from protos.history import Shape
from protos.rec.v1.encoder_pb2 import ItemText, RefreshRequest, UserState
from protos.rec.v1.interests_pb2 import TIER_LIGHT, TIER_REFINED
from stream.bench.callers import Turns, answered
from stream.bench.reader import (
    TENANT,
    Reader,
    compiled_folder,
    make_reader,
    trained_bundle,
)
from stream.encoder_client import EncoderClient
from stream.model_process import serve_bundle

N_USERS, N_CALLERS = 128, 16
BATCH = N_USERS // 2
"""While half of the callers wait for a batch, the others' requests gather for the next."""
N_TURNS, QUICK_TURNS = 72, 12
N_ROUNDS = 3
N_CALLERS_WITHIN = (1, 2, 4, 8, 16, 32, 64)
"""Of one user each."""
P99_MS = 50
TIERS = {"light": TIER_LIGHT, "refined": TIER_REFINED}
N_EVENTS, FIRST_OPEN = 2_048, 8
ROOM = Shape().segment_size - FIRST_OPEN - N_TURNS
"""No segment closes: its block would be asked for, which a prebuilt request cannot answer."""
BARS = {"share_of_bare_step": ">= 0.6", "batching_gain": ">= 3", "cache_gain": ">= 5"}
NO_CACHES = {"max_cached_user_bytes": 1, "max_cached_block_bytes": 1, "max_cached_items": 1}

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
            step = stack.enter_context(BareStep(bundle, BATCH))
        rates = asyncio.run(_rates(Path(scratch), served, alone, bare, step, n_turns))
    figures = {
        "share_of_bare_step": round(rates["served"] / rates["bare step"], 3),
        "batching_gain": round(rates["served"] / rates["one by one"], 2),
        "cache_gain": round(rates["served"] / rates["without caches"], 2),
        "users_per_s": round(rates["served"]),
        "user_bytes": step.user_bytes,
        "users_in_10_gb": int(10e9 // step.user_bytes),
    }
    against = {name: round(one) for name, one in rates.items()}
    ok = (
        figures["share_of_bare_step"] >= 0.6
        and figures["batching_gain"] >= 3
        and figures["cache_gain"] >= 5
    )
    return Result(figures, against, BARS, ok)


async def _rates(
    folder: Path, served: str, alone: str, bare: str, step: "BareStep", n_turns: int
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
            reader.grow(user, N_EVENTS + FIRST_OPEN + place % ROOM)
            for way in ways:
                await way.refresh(user)
    named, whole = _prebuilt(reader, ways[0].fill, users, texts, n_turns)
    rates = await _in_turns({"served": served, "one by one": alone}, step, named)
    with console.status("load: without caches"):
        some = [turns[: n_turns // N_ROUNDS] for turns in whole]
        rates["without caches"] = (await answered(bare, some)).users_per_s
    for tier in TIERS:
        with console.status(f"growing histories: {tier}"):
            users = [f"{tier}-{place}" for place in range(N_USERS)]
            for user in users:
                reader.grow(user, N_EVENTS + FIRST_OPEN)
                await ways[0].refresh(user)
        rates[f"{tier} within {P99_MS} ms"] = await _within(served, reader, users, tier, n_turns)
    for client in clients.values():
        await client.close()
    for way in ways:
        way.close()
    reader.close()
    return rates


async def _in_turns(
    addresses: Mapping[str, str], step: "BareStep", turns: Turns
) -> dict[str, float]:
    """Return the median users a second of each encoder and of the bare step, measured in turns: a
    shared machine has slow minutes."""
    rates: dict[str, list[float]] = defaultdict(list)
    size = len(turns[0]) // N_ROUNDS
    for first in track(range(0, len(turns[0]), size), "load", console=console):
        some = [of_caller[first : first + size] for of_caller in turns]
        rates["bare step"].append(await asyncio.to_thread(step.users_per_s))
        for name, address in addresses.items():
            rates[name].append((await answered(address, some)).users_per_s)
    return {name: median(found) for name, found in rates.items()}


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
            recent = {one for state in states for one in state.recent_item_ids}
            items = [ItemText(tenant=TENANT, item_id=one, text=texts[one]) for one in recent]
            for state in states:
                fill(state)
            whole[caller].append(RefreshRequest(users=states, items=items).SerializeToString())
    return named, whole


async def _within(
    address: str, reader: Reader, users: Sequence[str], tier: str, n_turns: int
) -> float:
    """Return the most users a second of which 99 % are answered in time, over numbers of callers
    that ask for one user at a time; 0 if a lone caller waits longer already.

    Args:
        users: with an open segment that holds what comes now: no answer's block is sent back.
    """
    best = 0.0
    for n_callers in track(N_CALLERS_WITHIN, f"{tier}, one user a request", console=console):
        callers: list[list[bytes]] = [[] for _ in range(n_callers)]
        for _ in range(max(1, n_turns * n_callers // N_USERS)):
            for place, user in enumerate(users):
                reader.grow(user, 1)
                state = reader.state(user)
                state.tier = TIERS[tier]
                callers[place % n_callers].append(RefreshRequest(users=[state]).SerializeToString())
        found = await answered(address, callers)
        if found.p99_ms <= P99_MS:
            best = max(best, found.users_per_s)
    return best


class BareStep:
    """The model without serving, in a process of its own (encoder/bench/step.py)."""

    def __init__(self, bundle: Path, batch: int) -> None:
        words = [str(bundle), str(batch), str(compiled_folder())]
        command = [sys.executable, "-m", "encoder.bench.step", *words]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.user_bytes = 0
        """What is kept of a user."""

    def __enter__(self) -> "BareStep":
        self.user_bytes = int(self._line())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # at the end of what it reads, it ends

    def users_per_s(self) -> float:
        """Measure anew."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise FreshetError("the bare step failed; its error stands above")
        return line
