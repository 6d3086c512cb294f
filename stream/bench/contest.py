"""Runs one contestant at a time over the same log.

A rival reads the log where it was written once. A worker gets topics of its own (a worker that
finds its changelog would skip what it has), and is prepared before the clock starts: joined,
recovered, its catalogue loaded. Then it is stopped (SIGSTOP) while the log is written, so that it
wakes before the whole of it, as a rival does; its session is long enough for that.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from kafka import KafkaAdminClient

from protos.errors import FreshetError
from stream.bench.event_log import KeyedValue, write
from stream.bench.rates import Sample, Speed, speed_of
from stream.bench.worker_process import WorkerProcess, wait_for
from stream.bench.world import N_PARTITIONS, StreamWorld
from stream.kafka_clients import app_id

LOOK_S = 0.1
"""Between two questions to the broker: what is committed?"""
_SESSION_S = 20.0
"""A worker may stand still for 0.7 of it (stream/lease.py); the log is written in 1 to 4 s. Not
longer: a quarter of it may pass before one worker notices that another has joined."""
_START_S = 60.0
_SLOWEST_PER_S = 200.0
"""Events; who is slower is given up."""


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """What workers did with the log."""

    speed: Speed
    n_refreshed: int
    """Users whose new interests were published while the log was read."""
    coded_share: float | None
    """Of the events in the durable histories: those that have their item's codes. None where that
    was not asked for."""


class Contest:
    """One log, one Kafka, one stub encoder. One contestant at a time."""

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        encoder_address: str,
        *,
        events: Sequence[KeyedValue],
        vectors: Sequence[KeyedValue],
    ) -> None:
        """
        Args:
            events: records of rec.events, one event each.
            vectors: records of rec.item-vectors.
        """
        self._bootstrap, self._folder, self._encoder = bootstrap, folder, encoder_address
        self._events, self._vectors = events, vectors
        self._limit_s = _START_S + len(events) / _SLOWEST_PER_S
        world = StreamWorld(bootstrap, folder)
        try:
            write(bootstrap, world.topics.events, events, N_PARTITIONS)
            self._topic = world.topics.events
        finally:
            world.close()

    def run_rival(self, name: str, n_events: int) -> Speed:
        """Run one of stream/bench/rivals.py over so many events of the log."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))
        log_path = folder / "log"
        settings = {
            "bootstrap": self._bootstrap,
            "topic": self._topic,
            "group": f"{name}-{uuid.uuid4().hex[:8]}",
            "events": n_events,
            "partitions": N_PARTITIONS,
            "folder": folder,
        }
        command = [sys.executable, "-m", "stream.bench.rivals", name]
        command += [f"--{key}={value}" for key, value in settings.items()]
        with log_path.open("wb") as log:
            try:
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=log, timeout=self._limit_s
                )
            except subprocess.TimeoutExpired as error:
                raise FreshetError(f"{name} did not end: {_tail(log_path)}") from error
        if done.returncode:
            raise FreshetError(f"{name} failed: {_tail(log_path)}")
        samples = [Sample(**one) for one in json.loads(done.stdout)]
        return speed_of(samples, n_events)

    def run_workers(self, n_workers: int, *, verify: bool) -> WorkerRun:
        """Run workers of one group from the beginning until everything is committed.

        Args:
            verify: then read back what they made durable.
        """
        folder = Path(tempfile.mkdtemp(prefix="worker-", dir=self._folder))
        world = StreamWorld(self._bootstrap, folder)
        try:
            write(self._bootstrap, world.topics.item_vectors, self._vectors, N_PARTITIONS)
            workers = [
                world.worker(self._encoder, f"worker-{i}", session_timeout_s=_SESSION_S).start()
                for i in range(n_workers)
            ]
            wait_for(lambda: self._are_prepared(workers), "the workers did not get ready")
            self._write_behind(world, workers)
            samples = self._watch(world, workers)
            known = [worker.metrics() for worker in workers]
            for worker in workers:
                worker.stop()
            coded_share = self._verify(world) if verify else None
        finally:
            world.close()
        n_refreshed = sum(int(one.get('refreshes_total{status="ok"}', 0)) for one in known)
        return WorkerRun(speed_of(samples, len(self._events)), n_refreshed, coded_share)

    def _are_prepared(self, workers: Sequence[WorkerProcess]) -> bool:
        for worker in workers:
            worker.wait_ready()
        n_items = len(self._vectors)
        known = [worker.metrics() for worker in workers]
        return all((m.get("ready"), m.get("catalogue_items")) == (1, n_items) for m in known)

    def _write_behind(self, world: StreamWorld, workers: Sequence[WorkerProcess]) -> None:
        """Write the log while no worker looks."""
        for worker in workers:
            worker.signal(signal.SIGSTOP)
        write(self._bootstrap, world.topics.events, self._events, N_PARTITIONS)
        for worker in workers:
            worker.signal(signal.SIGCONT)

    def _watch(self, world: StreamWorld, workers: Sequence[WorkerProcess]) -> list[Sample]:
        """Ask how far the group's committed offsets are, until the end."""
        gives_up_at = time.monotonic() + self._limit_s
        processes = [psutil.Process(worker.pid) for worker in workers]
        group = app_id(world.topics)
        admin = KafkaAdminClient(bootstrap_servers=self._bootstrap)
        samples = [Sample(time.monotonic(), 0, _cpu_s(processes))]
        try:
            while samples[-1].n_events < len(self._events):
                if time.monotonic() > gives_up_at:
                    raise FreshetError(f"the workers did not end: {workers[0].log()[-4000:]}")
                for worker in workers:
                    if worker.process.poll() is not None:
                        raise FreshetError(f"a worker exited: {worker.log()[-4000:]}")
                time.sleep(LOOK_S)
                n_events = _n_committed(admin, group, world.topics.events)
                if n_events > samples[-1].n_events:
                    samples.append(Sample(time.monotonic(), n_events, _cpu_s(processes)))
        finally:
            admin.close()
        return samples

    def _verify(self, world: StreamWorld) -> float:
        """See that the changelog has every event; return the share of them that are coded."""
        coded = [flag for history in world.states().values() for flag in history.coded]
        if len(coded) != len(self._events):
            raise FreshetError(f"{len(coded)} of {len(self._events)} events are in the changelog")
        return sum(coded) / len(coded)


def _n_committed(admin: KafkaAdminClient, group: str, topic: str) -> int:
    offsets = admin.list_group_offsets(group)[group]
    return sum(max(0, at.offset) for place, at in offsets.items() if place.topic == topic)


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-4000:]
