"""`freshet bench refresh`: what an event costs, whatever the history (design section 8).

Users with histories of 64 to 16,384 events get events one by one. After each event the same state
is refreshed several ways, in turns, timed at the client with the store's reads and serialisation:

    incremental   by a warm encoder: one event, one item
    from blocks   by one that keeps nothing of users or items: open segment and window again, the
                  texts of the window's items sent along
    full          by one that keeps nothing at all: all segments and texts

All have compiled passes (FRESHET_ENCODER_COMPILE). Beside them, incremental without those, and from
blocks with the states of items kept.

Means are over an even number of segments' events, so cut-backs and closings are in them. Beside
them, a forward pass of all segments by PyTorch, without any serving (encoder/bench/forward.py).
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from infra.bench import Result
from infra.settings import SharedSettings
from protos.errors import FreshetError
from protos.history import Shape
from stream.bench.reader import compiled_folder, make_reader, trained_bundle
from stream.encoder_client import EncoderClient
from stream.model_process import serve_bundle

LENGTHS = (64, 256, 1_024, 2_048, 4_096, 8_192, 16_384)
FULL_LENGTHS = (64, 256, 1_024, 2_048, 4_096)
"""Longer ones would take minutes and say nothing else."""
N_EVENTS, QUICK_EVENTS = 256, 32
N_WARM = 3
INCREMENTAL, PLAIN = "incremental", "incremental, not compiled"
BLOCKS, BLOCKS_ITEMS = "from blocks", "from blocks and items"
FULL, TORCH = "full", "PyTorch's forward"
BARS = {
    "ratio_8192_to_256": "<= 1.15",
    "ratio_full_to_incremental": ">= 10",
    "ratio_uncached_to_cached": ">= 3",
}
NO_USERS = {"max_cached_user_bytes": 1}
NOBODY = NO_USERS | {"max_cached_items": 1}

Times = Mapping[str, Mapping[int, Sequence[float]]]
"""Seconds by way and length of the history."""

console = Console(stderr=True)


def refresh(quick: bool) -> Result:
    bundle = trained_bundle()
    compiled = {"compile": True, "compiled_folder": compiled_folder()}
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as scratch, ExitStack() as stack:
        with console.status("starting five encoders; the first time, passes are compiled"):
            addresses = {
                name: stack.enter_context(serve_bundle(bundle, **settings))
                for name, settings in (
                    (INCREMENTAL, compiled),
                    (PLAIN, {}),
                    (BLOCKS, compiled | NOBODY),
                    (BLOCKS_ITEMS, compiled | NO_USERS),
                    (FULL, compiled | NOBODY | {"max_cached_block_bytes": 1}),
                )
            }
        n_events = QUICK_EVENTS if quick else N_EVENTS
        times = asyncio.run(_measured(Path(scratch), addresses, n_events))
    torch_ms = _forward(bundle)
    mean = {
        way: {n: 1000 * float(np.mean(of)) for n, of in lengths.items()}
        for way, lengths in times.items()
    }
    short, long = (times[INCREMENTAL][n] for n in (256, 8_192))
    figures = {
        "ratio_8192_to_256": round(float(np.mean(long) / np.mean(short)), 3),
        "ratio_full_to_incremental": round(mean[FULL][2_048] / mean[INCREMENTAL][2_048], 2),
        "ratio_uncached_to_cached": round(mean[BLOCKS][2_048] / mean[INCREMENTAL][2_048], 2),
        "p50_ms_at_2048": round(1000 * float(np.median(times[INCREMENTAL][2_048])), 2),
        "p99_ms_at_2048": round(1000 * float(np.quantile(times[INCREMENTAL][2_048], 0.99)), 2),
    }
    against = {way: {str(n): round(ms, 2) for n, ms in of.items()} for way, of in mean.items()}
    against[TORCH] = {str(n): round(ms, 2) for n, ms in torch_ms.items()}
    path = SharedSettings().state / "bench" / "refresh.png"
    _plot({**mean, TORCH: torch_ms}, path)
    console.print(f"plot: {path}")
    ok = (
        figures["ratio_8192_to_256"] <= 1.15
        and figures["ratio_full_to_incremental"] >= 10
        and figures["ratio_uncached_to_cached"] >= 3
    )
    return Result(figures, against, BARS, ok)


async def _measured(folder: Path, addresses: Mapping[str, str], n_events: int) -> Times:
    times: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    async with AsyncExitStack() as stack:
        clients = {way: EncoderClient(one, Shape()) for way, one in addresses.items()}
        for client in clients.values():
            stack.push_async_callback(client.close)
        with console.status("encoding items"):
            reader, _ = await make_reader(folder, list(addresses.values()))
        stack.callback(reader.close)
        ways = {
            name: reader.way_to(name.replace(" ", "-"), client, by_blocks=name != FULL)
            for name, client in clients.items()
        }
        for way in ways.values():
            stack.callback(way.close)
        for n in track(LENGTHS, "growing histories", console=console):
            reader.grow(f"u{n}", n)
        for event in track(range(N_WARM + n_events), "events", console=console):
            for n in LENGTHS:
                reader.grow(f"u{n}", 1)
            for name in _turn(list(ways), event):
                for n in LENGTHS if name != FULL else FULL_LENGTHS:
                    seconds = await ways[name].refresh(f"u{n}")
                    if event >= N_WARM:
                        times[name][n].append(seconds)
    return times


def _turn(names: list[str], event: int) -> list[str]:
    """Return whose turn it is, one after the other; who comes first changes."""
    first = event % len(names)
    return names[first:] + names[:first]


def _forward(bundle: Path) -> dict[int, float]:
    """Return the milliseconds of a forward pass over whole histories, in a process of its own."""
    command = [sys.executable, "-m", "encoder.bench.forward", str(bundle), *map(str, LENGTHS)]
    with console.status(TORCH):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        raise FreshetError("the forward pass failed; its error stands above")
    return {int(n): float(ms) for n, ms in json.loads(done.stdout).items()}


def _plot(curves: Mapping[str, Mapping[int, float]], path: Path) -> None:
    figure = Figure((8.0, 5.0), dpi=130, layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(list(curve), list(curve.values()), marker="o", label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="events of the history", ylabel="ms a refresh, mean"
    )
    axes.set_xticks(LENGTHS, [f"{n:,}" for n in LENGTHS])
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
