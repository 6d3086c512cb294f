"""The order of a checkpoint, with fakes that write down what they were asked."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from protos.history import Shape
from stream.checkpoint import LIMIT_FACTOR, Checkpointer
from stream.metrics import WorkerMetrics
from stream.partition import Partition
from stream.store import POSITION_KEY, unpack_position


class World:
    """Changelog, disks, group and outbox in one diary."""

    def __init__(self):
        self.diary = []
        self.fails_at = None
        self.broker = asyncio.Event()
        self.broker.set()
        self.failures = []

    def note(self, *entry):
        if self.fails_at == entry[0]:
            raise ConnectionError(f"{entry[0]} failed")
        self.diary.append(entry)

    # Changelog
    async def append(self, partition, changes):
        await self.broker.wait()
        self.note("changelog", partition, unpack_position(changes[POSITION_KEY]))
        return 100 + partition

    # Outbox
    def emit(self, records): ...

    async def push(self): ...

    async def settled(self):
        self.note("settled")

    async def commit(self, positions):
        self.note("commit", dict(positions))


class NotedDisk:
    def __init__(self, world, partition):
        self._world, self._partition = world, partition

    def get(self, key):
        return None

    def write(self, changes, changelog_offset):
        self._world.note("disk", self._partition, changelog_offset)

    def items(self, prefix):
        return iter(())


@pytest.fixture
def world():
    return World()


def a_checkpointer(world, n_partitions=1, **options):
    partitions = {
        n: Partition(n, NotedDisk(world, n), Shape(), n_cached=10) for n in range(n_partitions)
    }
    checkpointer = Checkpointer(
        partitions,
        changelog=world,
        outbox=world,
        commit=world.commit,
        metrics=WorkerMetrics(CollectorRegistry()),
        on_failure=world.failures.append,
        **{"interval_s": 0.01, "n_events": 100} | options,
    )
    return checkpointer, partitions


async def test_nothing_is_committed_before_it_is_in_changelog_and_disk(world):
    checkpointer, partitions = a_checkpointer(world)
    partitions[0].advance(41)

    await checkpointer.flush()

    assert world.diary == [
        ("settled",),
        ("changelog", 0, 42),
        ("disk", 0, 100),
        ("commit", {0: 42}),
    ]


async def test_clean_partitions_are_left_alone(world):
    checkpointer, partitions = a_checkpointer(world, n_partitions=3)
    partitions[1].advance(7)

    await checkpointer.flush()
    await checkpointer.flush()

    assert world.diary == [("settled",), ("changelog", 1, 8), ("disk", 1, 101), ("commit", {1: 8})]


@pytest.mark.parametrize("where", ["settled", "changelog", "disk", "commit"])
async def test_failed_checkpoint_ends_the_process_and_commits_nothing_ever_after(world, where):
    checkpointer, partitions = a_checkpointer(world)
    partitions[0].advance(41)
    world.fails_at = where
    await checkpointer.flush()
    assert len(world.failures) == 1

    world.fails_at = None
    partitions[0].advance(42)
    await checkpointer.flush()

    assert not any(entry[0] == "commit" for entry in world.diary)


async def test_events_folded_during_a_checkpoint_are_not_committed_by_it(world):
    checkpointer, partitions = a_checkpointer(world)
    partitions[0].advance(41)
    world.broker.clear()
    flushing = asyncio.create_task(checkpointer.flush())
    await asyncio.sleep(0.01)

    partitions[0].advance(42)
    world.broker.set()
    await flushing

    assert world.diary[-1] == ("commit", {0: 42})
    assert partitions[0].is_dirty


async def test_fold_waits_while_too_much_is_not_durable(world):
    checkpointer, partitions = a_checkpointer(world, n_events=10)
    partitions[0].advance(1)
    checkpointer.count(LIMIT_FACTOR * 10)
    waiting = asyncio.create_task(checkpointer.wait_below_limit())
    await asyncio.sleep(0.01)
    assert not waiting.done()

    await checkpointer.flush()

    await asyncio.wait_for(waiting, 1)


async def test_checkpoints_come_by_time_and_early_by_number(world):
    checkpointer, partitions = a_checkpointer(world, interval_s=30.0, n_events=10)
    running = asyncio.create_task(checkpointer.run())
    partitions[0].advance(1)
    await asyncio.sleep(0.02)
    assert world.diary == []

    checkpointer.count(10)
    await asyncio.sleep(0.02)

    assert world.diary[-1] == ("commit", {0: 2})
    running.cancel()


async def test_cancelled_loop_completes_the_checkpoint_that_began(world):
    checkpointer, partitions = a_checkpointer(world)
    partitions[0].advance(41)
    world.broker.clear()
    running = asyncio.create_task(checkpointer.run())
    await asyncio.sleep(0.05)

    running.cancel()
    world.broker.set()
    await asyncio.sleep(0.02)

    assert world.diary[-1] == ("commit", {0: 42})
