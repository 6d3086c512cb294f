"""The whole stack for `freshet bench crash`, in a temporary folder, with workers of its own.

    kafka/      a stack of its own, so that it is there before the topics are named
    services/   a stack of all others but the stream, given that Kafka's address
    workers/    crash-a and crash-b, started by the benchmark: so their disks can be wiped, and one
                can sleep while the other takes over

The supervisors of both stacks start again what is killed; `tend` does it for the workers.
"""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from infra.demo import freshet
from infra.endpoints import Endpoints
from infra.stack.health import Row, status_rows
from infra.stack.launcher import Silent, Stack, running_stack
from infra.stack.plan import Narrator
from infra.stack.state import StateFolder
from protos.errors import FreshetError
from stream.bench.stub_encoder import StubEncoder
from stream.bench.world import StreamWorld

ALL_PARTS = ("milvus", "encoder", "gateway", "retrieval", "web")
FEW_PARTS = ("gateway",)
WORKERS = ("crash-a", "crash-b")
WORKER_SETTINGS: dict[str, object] = {"session_timeout_s": 6, "cached_users": 40}
"""Kafka's shortest session, and fewer users in memory than there are, so that heads are read back
from disk; else as the product has it."""


class Crew:
    """The two workers. Only who is on duty is started again when it ends."""

    def __init__(self, world: StreamWorld, encoder: str) -> None:
        made = [world.worker(encoder, name, **WORKER_SETTINGS) for name in WORKERS]
        self.workers = dict(zip(WORKERS, made, strict=True))
        self._on_duty: set[str] = set()
        self.exits: Counter[str] = Counter()
        """Workers that ended without a fault of theirs, by exit code."""

    def start(self, name: str) -> None:
        self.workers[name].start()
        self._on_duty.add(name)

    def kill(self, name: str, *, wipe: bool = False) -> None:
        """SIGKILL; it stays down until `start`."""
        self._on_duty.discard(name)
        self.workers[name].kill()
        if wipe and self.workers[name].folder.exists():
            shutil.rmtree(self.workers[name].folder)

    def pause(self, name: str) -> None:
        self._on_duty.discard(name)
        self.workers[name].signal(signal.SIGSTOP)

    def wake(self, name: str) -> None:
        self.workers[name].signal(signal.SIGCONT)

    def tend(self) -> None:
        """Start again who ended by itself."""
        for name in self._on_duty:
            worker = self.workers[name]
            if (code := worker.process.poll()) is not None:
                self.exits[str(code)] += 1
                worker.start()

    def is_ready(self) -> bool:
        """Whether all who are on duty own their partitions."""
        return all(self.workers[name].metrics().get("ready") == 1 for name in self._on_duty)

    def stop(self) -> list[int]:
        """SIGTERM to both at once, so that neither inherits from the other; return exit codes."""
        self._on_duty.clear()
        for worker in self.workers.values():
            worker.signal(signal.SIGTERM)
        return [worker.wait(60) for worker in self.workers.values()]


class Parts:
    """What supervisors watch: killed by its pid, and looked for until another one is healthy."""

    def __init__(self, folders: Mapping[Path, tuple[str, ...]]) -> None:
        """
        Args:
            folders: names of the parts by the state folder of their stack.
        """
        self._stack_of: dict[str, Stack] = {}
        for folder, names in folders.items():
            self._stack_of |= dict.fromkeys(names, Stack(StateFolder.at(folder), Silent()))
        self._killed: dict[str, int] = {}

    def kill(self, name: str) -> None:
        """SIGKILL of one that is there."""
        pid = self._stack_of[name].supervisor.services()[name].pid
        if not pid:
            raise FreshetError(f"{name} does not run, so it cannot be killed")
        os.kill(pid, signal.SIGKILL)
        self._killed[name] = pid

    def are_back(self) -> bool:
        """Whether all are healthy, and none is the process that was killed."""
        stacks = set(self._stack_of.values())
        back = {row.name for stack in stacks for row in status_rows(stack) if self._is_back(row)}
        return back >= self._stack_of.keys()

    def _is_back(self, row: Row) -> bool:
        is_ours = row.pid is not None  # Kafka also stands in the table of those who use it
        return is_ours and row.is_healthy and row.pid != self._killed.get(row.name)


@contextmanager
def crash_site(
    folder: Path, bundle: Path | None, narrator: Narrator
) -> Iterator[tuple[StreamWorld, Crew, Parts, Endpoints]]:
    """Run everything while the block runs; Ctrl-C, SIGTERM and SIGHUP end it in order.

    Args:
        bundle: of a trained model; None: a stub for the encoder, and nothing behind it.
    """
    kafka_folder, services_folder = folder / "kafka", folder / "services"
    names = FEW_PARTS if bundle is None else ALL_PARTS
    with ExitStack() as stack:
        stack.enter_context(_signals_interrupt())
        stack.enter_context(_own_environment(services_folder))
        kafka = stack.enter_context(running_stack(kafka_folder, frozenset({"kafka"}), narrator))
        (folder / "workers").mkdir()
        world = StreamWorld(kafka.kafka_bootstrap, folder / "workers")
        stack.callback(world.close)
        os.environ["FRESHET_KAFKA_BOOTSTRAP"] = kafka.kafka_bootstrap
        os.environ["FRESHET_TOPIC_PREFIX"] = world.prefix
        if bundle is not None:
            bring_bundle(bundle, services_folder / "bundle")
        endpoints = stack.enter_context(
            running_stack(services_folder, frozenset({"kafka", *names}), narrator)
        )
        # The workers first: they are ended at once, whatever else the end waits for.
        stack.callback(_kill_all, world)
        encoder = endpoints.encoder
        if bundle is None:
            stub = StubEncoder(needs_blocks=True).start()
            stack.callback(stub.stop)
            encoder = stub.address
        crew = Crew(world, encoder)
        parts = Parts({kafka_folder: ("kafka",), services_folder: names})
        yield world, crew, parts, endpoints


def _kill_all(world: StreamWorld) -> None:
    for worker in world.workers:
        worker.kill()


def bring_bundle(trained: Path, wanted: Path) -> None:
    """Copy a trained bundle, or train one quickly where there is none."""
    if (trained / "config.json").exists():
        shutil.copytree(trained, wanted)
        return
    freshet("data", "fetch", "ml-100k")
    freshet("train", "ml-100k", "--quick")


@contextmanager
def _own_environment(state: Path) -> Iterator[None]:
    """Leave out every setting of this shell's, above all the address of a Kafka that is not ours to
    kill."""
    before = {name: value for name, value in os.environ.items() if name.startswith("FRESHET_")}
    for name in before:
        if name != "FRESHET_DATA":
            del os.environ[name]
    os.environ["FRESHET_STATE"] = str(state)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("FRESHET_")]:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
