"""`freshet bench crash`: kill -9 of each process in turn under load; nothing lost, nothing twice.

Starts the whole stack in a temporary folder, with two stream workers of its own, publishes through
the SDK, the gateway and a client that partitions otherwise, and brings about one fault after the
other (stream/bench/faults.py) until enough processes were killed. Then the load stops, everything
drains, and two judges that know nothing of the product's fold look at what is left
(stream/bench/verdict.py). What fails is kept: the folder with Kafka's log, the disks and the logs.

--quick: Kafka, gateway and workers, with a stub for the encoder, and no fault begins after
QUICK_S seconds; the result says which were brought about.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import takewhile
from pathlib import Path
from statistics import median

from rich.console import Console

from infra import datasets
from infra.bench import Result
from infra.endpoints import Endpoints
from infra.settings import SharedSettings
from infra.stack.commands import TerminalNarrator
from protos.errors import NotReady
from protos.rec.v1.items_pb2 import Item
from stream.bench.acknowledged import CrashLoad
from stream.bench.aftermath import Aftermath
from stream.bench.canary import Canary
from stream.bench.crash_site import WORKERS, Crew, Parts, crash_site
from stream.bench.faults import Fault, FaultRunner, Faults, Toll
from stream.bench.positions import PositionWatch
from stream.bench.verdict import Verdict
from stream.bench.world import StreamWorld
from stream.item_publisher import ItemPublisher

MIN_KILLS = 30
RECORDS_PER_S = 200.0
"""360 events a second: what two cores carry beside the real encoder."""
DRAIN_S = 120.0
QUICK_S = 75.0


def crash(quick: bool) -> Result:
    """Kill, compare, judge."""
    # The client's reconnections are what is provoked here.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    narrator = TerminalNarrator(Console(stderr=True))
    folder = Path(tempfile.mkdtemp(prefix="freshet-bench-"))
    is_evidence = False
    try:
        result = _Run(folder, quick, narrator).result()
        is_evidence = not result.ok
    except NotReady:  # nothing has run
        raise
    except Exception:
        is_evidence = True
        raise
    finally:
        narrator.rest()
        if is_evidence:
            narrator.done(f"topics, disks and logs are kept in {folder}")
        else:
            shutil.rmtree(folder)
    return result


class _Run:
    def __init__(self, folder: Path, quick: bool, narrator: TerminalNarrator) -> None:
        self._folder, self._quick, self._narrator = folder, quick, narrator
        self._toll = Toll()
        self._started = time.monotonic()
        self._is_drained = False

    def result(self) -> Result:
        bundle = None if self._quick else SharedSettings().state.resolve() / "bundle"
        items = _made_up_items() if self._quick else _movies()
        with crash_site(self._folder, bundle, self._narrator) as (world, crew, parts, endpoints):
            with ItemPublisher(world.bootstrap, topic_prefix=world.prefix) as publisher:
                publisher.upsert(items, timeout_s=60)
            load = CrashLoad(world, endpoints.gateway, [i.item_id for i in items], RECORDS_PER_S)
            try:
                self._bring_about(world, crew, parts, endpoints, load)
                verdict, aftermath = self._judge(world, crew, load)
            finally:
                load.close()
        self._write_down(verdict)
        return self._summed_up(verdict, aftermath, load, crew)

    def _bring_about(
        self, world: StreamWorld, crew: Crew, parts: Parts, endpoints: Endpoints, load: CrashLoad
    ) -> None:
        """Let the load run, and everything fail in turn."""
        with ExitStack() as stack:
            watch = stack.enter_context(closing(PositionWatch(world)))
            canary = None
            if not self._quick:
                canary = Canary(endpoints, load.item_ids[0], load.acknowledged)
                stack.enter_context(closing(canary))
            self._narrator.doing("workers start")
            for name in WORKERS:
                crew.start(name)
            load.start()
            runner = FaultRunner(
                crew, parts, watch, canary, records_per_s=RECORDS_PER_S, narrator=self._narrator
            )
            runner.wait_recovered()
            runner.run(self._faults(Faults(crew, parts, self._toll)), self._toll)
            self._narrator.doing("load stops, all drains")
            load.stop()
            self._is_drained = runner.wait_drained()

    def _faults(self, faults: Faults) -> Iterator[Fault]:
        if self._quick:
            ends_at = self._started + QUICK_S
            yield from takewhile(lambda fault: time.monotonic() < ends_at, faults.few())
            return
        while self._toll.n_kills < MIN_KILLS:
            yield from faults.all()

    def _judge(self, world: StreamWorld, crew: Crew, load: CrashLoad) -> tuple[Verdict, Aftermath]:
        self._narrator.doing("reading the log")
        aftermath = Aftermath(world)
        self._narrator.doing("waiting for the last refreshes")
        aftermath.wait_fresh(DRAIN_S)
        self._toll.stops += crew.stop()
        self._narrator.doing("comparing with the oracle")
        return aftermath.verdict(load.acknowledged.names()), aftermath

    def _summed_up(
        self, verdict: Verdict, aftermath: Aftermath, load: CrashLoad, crew: Crew
    ) -> Result:
        toll = self._toll
        figures = {
            "lost": verdict.account.lost,
            "twice": verdict.account.twice,
            "unequal_users": verdict.unequal_users,
            "stale_users": len(verdict.stale),
            "unequal_seen_segments": len(verdict.seen),
            "lost_dead_letters": len(verdict.lost_letters),
            "kills": toll.n_kills,
            "zombies": toll.n_zombies,
            "zombie_exits": dict(toll.zombie_exits),
            "kills_by_cause": dict(toll.kills),
            "recovery_s": toll.medians(),
            "uncommitted_records_at_faults": median(toll.uncommitted) if toll.uncommitted else 0,
            "not_recovered": toll.not_recovered,
            "drained": self._is_drained,
            "exits_by_themselves": dict(crew.exits),
            "exits_at_the_end": toll.stops,
            "n_events": aftermath.n_events,
            "n_acknowledged": len(load.acknowledged.names()),
            "n_unconfirmed_records": load.acknowledged.n_failed,
            "n_users": len(aftermath.oracle),
            "encoder": "a stub" if self._quick else "the trained model",
        }
        zero = dict.fromkeys(("lost", "twice", "unequal_users", "stale_users"), "= 0")
        has_enough = self._quick or toll.n_kills >= MIN_KILLS
        is_whole = self._is_drained and not toll.not_recovered
        return Result(
            figures,
            bar=zero | {"kills": f">= {MIN_KILLS}"},
            ok=verdict.is_clean and is_whole and has_enough,
        )

    def _write_down(self, verdict: Verdict) -> None:
        lines = [
            f"{one.user} {one.what}: found {one.found}, expected {one.expected}"
            for one in verdict.differences
        ]
        lines += [f"no dead letter of {place}" for place in verdict.lost_letters]
        (self._folder / "differences.txt").write_text("\n".join(lines) + "\n")


def _movies() -> list[Item]:
    columns = ["item_id", "title", "text", "categories"]
    rows = datasets.load("ml-100k").items.select(columns).to_pylist()
    return [Item(**row) for row in rows]


def _made_up_items() -> list[Item]:
    return [Item(item_id=f"i{number}", title=f"item {number}") for number in range(500)]
