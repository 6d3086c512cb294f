"""`freshet bench soak`: does a worker's memory stay flat under a steady load?

2,000 events/s, one a record, refreshes against the stub encoder. First five minutes in which every
user reaches his full size (32 recent items, 64 event hashes, 16 visible blocks, which is why there
are only 250) and the store fills its caches, then the ten whose slope is measured.
"""

import random
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.progress import Progress

from infra.bench import Result
from infra.stack.launcher import Silent, running_stack
from protos.errors import FreshetError
from protos.rec.v1.events_pb2 import Event
from stream.bench.stub_process import stub_encoder_process
from stream.bench.worker_process import WorkerProcess
from stream.bench.world import StreamWorld

EVENTS_PER_S = 2_000
N_USERS, N_ITEMS = 250, 10_000
WARM_S, SECONDS = 300.0, 600.0
QUICK_WARM_S, QUICK_SECONDS = 40.0, 40.0
LOOK_S = 1.0
FLAT_MIB_PER_MIN = 1.0

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Look:
    at_s: float
    rss_mib: float
    n_behind: int
    """Records that are published and not committed."""


def soak(quick: bool) -> Result:
    """Measure and judge: flat is less than 1 MiB a minute."""
    warm_s, seconds = (QUICK_WARM_S, QUICK_SECONDS) if quick else (WARM_S, SECONDS)
    with (
        tempfile.TemporaryDirectory(prefix="freshet-bench-") as scratch,
        running_stack(Path(scratch), frozenset({"kafka"}), Silent()) as endpoints,
        stub_encoder_process() as encoder_address,
    ):
        world = StreamWorld(endpoints.kafka_bootstrap, Path(scratch))
        try:
            worker = world.worker(encoder_address).start().wait_ready()
            load = SteadyLoad(world, warm_s + seconds)
            looks = _watch(world, worker, load, warm_s + seconds)
            load.join()
            world.wait_drained()
        finally:
            world.close()
    result = judged(looks, load.n_sent, warm_s)
    if not quick:
        return result
    console.print("too short to judge: the heads of the users still grow", highlight=False)
    return replace(result, bar={}, ok=True)


class SteadyLoad(threading.Thread):
    """Publishes at a fixed rate, a burst every 10 ms."""

    def __init__(self, world: StreamWorld, seconds: float) -> None:
        super().__init__(daemon=True)
        self._world, self._seconds = world, seconds
        self.n_sent = 0

    def run(self) -> None:
        chosen = random.Random(1)
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < self._seconds:
            while self.n_sent < elapsed * EVENTS_PER_S:
                event = Event(
                    event_id=f"e{self.n_sent}",
                    item_id=f"i{chosen.randrange(N_ITEMS)}",
                    action="click",
                    event_time_ms=time.time_ns() // 1_000_000,
                )
                self._world.publish(f"u{chosen.randrange(N_USERS)}", [event])
                self.n_sent += 1
            time.sleep(0.01)
        self._world.producer.flush()


def _watch(
    world: StreamWorld, worker: WorkerProcess, load: SteadyLoad, seconds: float
) -> list[Look]:
    process, looks = psutil.Process(worker.pid), []
    load.start()
    start = time.monotonic()
    with Progress(console=console) as progress:
        task = progress.add_task(f"{EVENTS_PER_S:,} events/s", total=seconds)
        while load.is_alive():
            time.sleep(LOOK_S)
            if worker.process.poll() is not None:
                raise FreshetError(f"the worker exited: {worker.log()[-2000:]}")
            n_behind = sum(world.ends().values()) - sum(world.committed().values())
            rss_mib = process.memory_info().rss / 2**20
            looks.append(Look(time.monotonic() - start, rss_mib, n_behind))
            progress.update(
                task, completed=looks[-1].at_s, description=f"{rss_mib:.0f} MiB, {n_behind} behind"
            )
    return looks


def judged(looks: list[Look], n_events: int, warm_s: float) -> Result:
    """Fit a line through the looks after the first `warm_s`."""
    later = [look for look in looks if look.at_s > warm_s]
    minutes = np.array([look.at_s for look in later]) / 60
    slope = float(np.polyfit(minutes, [look.rss_mib for look in later], 1)[0])
    return Result(
        figures={
            "mib_per_min": round(slope, 2),
            "rss_mib_warm": round(later[0].rss_mib, 1),
            "rss_mib_end": round(later[-1].rss_mib, 1),
            "rss_mib_max": round(max(look.rss_mib for look in looks), 1),
            "records_behind_p99": int(np.percentile([look.n_behind for look in looks], 99)),
            "events_per_s": round(n_events / looks[-1].at_s),
            "n_events": n_events,
            "n_users": N_USERS,
        },
        bar={"mib_per_min": f"< {FLAT_MIB_PER_MIN:g}"},
        ok=slope < FLAT_MIB_PER_MIN,
    )
