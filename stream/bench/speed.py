"""`freshet bench stream`: events a second of one worker, over a stock faust agent without state.

All read the same log, one event a record: 5,000 users and 10,000 items, both by a Zipf-Mandelbrot
law, 4 partitions. The worker does all that it does in service: the catalogue is in its memory, so
every event gets its codes; every user who moved waits for a refresh, and calls to a stub encoder
run while it folds; an event counts when the group's offset has passed it, which is after changelog
and RocksDB have it. Rivals (stream/bench/rivals.py) are not held to that: theirs counts when their
code has seen it. Speed is taken from the first progress to the last event (stream/bench/rates.py).
Worker and faust take turns, and medians are compared, so that the noise of a shared machine meets
both; `cpu_ratio` is the same over processor time of the contestant's processes, and steadier.

Cost model. One thread of Python does nearly everything, so a worker's speed is one over the sum of
these, per event; shares as measured are in docs/benchmarks.md:

    consume    1/512 of faust's way of a message, for events come in runs; decoding a fetch is
               another thread's work, 3% of the process
    validate   parse the EventBatch (C, cheap), then check it field by field in Python, and hash
               event and item
    fold       append to the user's head in memory: deques, bytearrays, one logarithm
    look up    item hash -> codes: a dict and a tuple
    apply      what lies between: partition, user, counters, place
    trend      two lists (all, the item's category), an addition in each; published every 3 s
    schedule   put the user into the queue of refreshes: a dict write
    flush      a *user* who moved since the last checkpoint, not an event: serialise the head (0.5
               to 2 KB), one record of a changelog batch, one key of a RocksDB batch. The more
               events of one user between two checkpoints, the less of it an event pays
    commit     4 offsets, a few times a second: nothing
    refresh    a user of a *call*, not an event: cut the state, a 32nd of a gRPC call, one record
               of rec.interests. It takes what the encoder can answer; the rest coalesces
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from infra.bench import Result
from infra.stack.launcher import Silent, running_stack
from stream.bench.contest import Contest, WorkerRun
from stream.bench.event_log import encode_items, make_events, make_items
from stream.bench.rates import Speed, median_speed
from stream.bench.stub_process import stub_encoder_process

N_USERS = 5_000
N_ITEMS = 10_000
PROCESSES = (
    "Kafka",
    "the stub encoder",
    "one contestant at a time: a worker (or two), or a rival",
    "this one, asleep but for a look at the committed offsets every 0.1 s of a worker's run",
)

WORKER, TWO_WORKERS = "worker", "two_workers"
FAUST, FAUST_TABLE, AIOKAFKA = "faust", "faust_with_table", "aiokafka_in_memory"
_N_WORKERS = {WORKER: 1, TWO_WORKERS: 2}
_RIVALS = {FAUST: ("plain", 1), FAUST_TABLE: ("table", 4), AIOKAFKA: ("aiokafka", 1)}
"""Name in stream/bench/rivals.py, and which part of the log it reads: the slowest a quarter."""

Speeds = Mapping[str, Sequence[Speed]]
"""Of each run, by contestant."""

console = Console(stderr=True)


def speed(quick: bool) -> Result:
    """Measure and judge; the bar is a ratio of 1.0, the stretch 1.7."""
    n_events, n_rounds = (20_000, 2) if quick else (100_000, 3)
    console.print("starting Kafka and the stub encoder, writing the log")
    with (
        tempfile.TemporaryDirectory(prefix="freshet-bench-") as folder,
        running_stack(Path(folder), frozenset({"kafka"}), Silent()) as endpoints,
        stub_encoder_process() as encoder_address,
    ):
        contest = Contest(
            endpoints.kafka_bootstrap,
            Path(folder),
            encoder_address,
            events=make_events(n_events, N_USERS, N_ITEMS),
            vectors=encode_items(make_items(N_ITEMS), encoder_address),
        )
        order = [WORKER, FAUST] * n_rounds + [TWO_WORKERS, FAUST_TABLE, AIOKAFKA]
        speeds, worker_runs = _run_all(contest, order, n_events)
    return judged(speeds, worker_runs, n_events)


def _run_all(
    contest: Contest, order: Sequence[str], n_events: int
) -> tuple[Speeds, list[WorkerRun]]:
    speeds: dict[str, list[Speed]] = {name: [] for name in order}
    worker_runs: list[WorkerRun] = []
    with Progress(console=console) as progress:
        for name in progress.track(order, description="runs"):
            if name in _RIVALS:
                rival, part = _RIVALS[name]
                found = contest.run_rival(rival, n_events // part)
            else:
                run = contest.run_workers(_N_WORKERS[name], verify=not worker_runs)
                worker_runs.append(run)
                found = run.speed
            speeds[name].append(found)
            progress.console.print(f"{name}: {found.events_per_s:,.0f} events/s", highlight=False)
    return speeds, worker_runs


def judged(speeds: Speeds, worker_runs: Sequence[WorkerRun], n_events: int) -> Result:
    """Compare the medians of the runs."""
    medians = {name: median_speed(some) for name, some in speeds.items()}
    worker, faust = medians[WORKER], medians[FAUST]
    ratio = worker.events_per_s / faust.events_per_s
    coded_share = next(r.coded_share for r in worker_runs if r.coded_share is not None)
    two_over_one = medians[TWO_WORKERS].events_per_s / worker.events_per_s
    return Result(
        figures={
            "ratio": round(ratio, 2),
            "cpu_ratio": round(worker.events_per_cpu_s / faust.events_per_cpu_s, 2),
            **_shown(speeds[WORKER]),
            "coded_share": coded_share,
            "refreshes": [run.n_refreshed for run in worker_runs],
            "n_events": n_events,
            "n_users": N_USERS,
            "n_items": N_ITEMS,
            "processes": PROCESSES,
        },
        against={name: _shown(speeds[name]) for name in _RIVALS}
        | {"two_workers_over_one": round(two_over_one, 2)},
        bar={"ratio": ">= 1.0", "coded_share": "== 1.0"},
        ok=ratio >= 1.0 and coded_share == 1.0,
    )


def _shown(speeds: Sequence[Speed]) -> dict[str, object]:
    median = median_speed(speeds)
    return {
        "events_per_s": round(median.events_per_s),
        "runs_per_s": [round(one.events_per_s) for one in speeds],
        "events_per_cpu_s": round(median.events_per_cpu_s),
    }
