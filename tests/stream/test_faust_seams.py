"""faust is pinned; these say at once what an upgrade took away."""

import asyncio
import collections
import inspect
import logging
from importlib.metadata import version

import faust
import pytest
from faust.stores import rocksdb
from faust.tables import TableManager, recovery
from faust.transport import consumer as transport
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.queues import FlowControlQueue

from stream.faust_seams import PRIVATE_NAMES, FlowControl, RocksDisk, RunConsumer, Tables


def test_faust_is_the_version_that_was_read():
    assert version("faust-streaming") == "0.15.3"


@pytest.mark.parametrize(("owner", "name"), PRIVATE_NAMES, ids=lambda value: str(value))
def test_private_name_still_exists(owner, name):
    assert hasattr(owner, name)


@pytest.mark.parametrize(
    ("source", "uses"),
    [
        (transport.Fetcher, "consumer._drain_messages(self)"),
        (transport.Consumer, "self._read_offset = "),
        (transport.Consumer, "self._committed_offset = "),
        (transport.Consumer, "await self.seek_to_committed()"),
        (transport.Consumer, "self.suspend_flow = "),
        (transport.Consumer, "self.flow_active = "),
        (driver.Consumer, "self._thread"),
        (faust.Stream, "def noack"),
        (rocksdb.Store, 'offset_key = b"__faust'),
        (rocksdb.Store, "raw_mode=True"),
        (TableManager, "def recovery(self)"),
        (
            recovery.Recovery,
            "except Exception as exc:\n" + 24 * " " + "finish_span(self._actives_span",
        ),
    ],
)
def test_mechanism_still_works_as_it_was_read(source, uses):
    text = inspect.getsource(source) + inspect.getsource(inspect.getmodule(source))

    assert uses in text


async def test_recovery_that_a_rebalance_overtook_takes_no_further_step():
    app = faust.App("test", TableManager=Tables)
    steps = []

    async def step():
        steps.append("partitions handed out")

    await app.tables.recovery._wait(step())
    app.tables.recovery.signal_recovery_start.set()
    with pytest.raises(recovery.RebalanceAgain):
        await app.tables.recovery._wait(step())

    assert steps == ["partitions handed out"]


async def test_a_flow_that_resumes_twice_keeps_what_was_delivered_in_between():
    control = FlowControl()
    queue = FlowControlQueue(flow_control=control, clear_on_resume=True)

    queue.force_put_nowait("from before the rebalance")
    control.resume()
    await queue.put("recovered")
    control.resume()

    assert queue.get_nowait() == "recovered"
    assert queue.empty()


class Seeks:
    """The consumer's thread: notes where it was sent."""

    def __init__(self):
        self.offsets = {}

    async def seek_wait(self, partitions):
        self.offsets |= partitions


def consumer_of_runs(sought):
    """A consumer that owns one partition of runs and one of a changelog."""

    class Consumer(RunConsumer):
        run_topics = frozenset({"events"})
        log = logging.getLogger("test")

        def __init__(self):
            self._seeking = asyncio.Lock()
            self._sought = sought
            self._thread = Seeks()
            self.flow_active = True

        def assignment(self):
            return {RUN, CHANGELOG}

    return Consumer()


RUN, CHANGELOG = TP("events", 0), TP("changelog", 0)
RECORD = collections.namedtuple("RECORD", "offset")


def found(*offsets):
    return [RECORD(offset) for offset in offsets]


@pytest.mark.parametrize(
    ("offsets", "sought", "is_kept", "seeks"),
    [
        ((26, 27), {RUN: 26}, True, {}),
        ((20, 21), {RUN: 26}, True, {}),  # read before the seek: what is known is skipped
        ((30, 31), {RUN: 26}, False, {RUN: 26}),  # read ahead, before the seek: a hole
        ((30, 31), {}, False, {RUN: 30}),  # nobody sought it
    ],
)
async def test_a_read_that_a_seek_overtook_is_kept_when_it_leaves_no_hole(
    offsets, sought, is_kept, seeks
):
    consumer = consumer_of_runs(sought)

    kept = await consumer._settled({RUN: found(*offsets)})

    assert (RUN in kept) == is_kept
    assert consumer._thread.offsets == seeks


async def test_a_changelog_that_a_seek_overtook_is_read_again_from_there():
    consumer = consumer_of_runs({CHANGELOG: 5})

    assert await consumer._settled({CHANGELOG: found(9), TP("events", 7): found(1)}) == {}
    assert consumer._thread.offsets == {CHANGELOG: 5}  # partition 7 is somebody else's


async def test_nothing_is_handed_over_while_the_flow_is_stopped():
    consumer = consumer_of_runs({RUN: 26})
    consumer.flow_active = False

    assert await consumer._settled({RUN: found(26)}) == {}
    assert consumer._thread.offsets == {RUN: 26}


def test_states_and_faust_offset_are_written_together_and_read_back(tmp_path):
    class Store:
        offset_key = rocksdb.Store.offset_key

        def __init__(self):
            self.db = rocksdb.RocksDBOptions(use_rocksdict=True).open(tmp_path / "x.db")

        def _db_for_partition(self, partition):
            return self.db

    store = Store()
    disk = RocksDisk(store, 0)

    disk.write({b"ha": b"1", b"hb": b"2", b"sa": b"3", b"hc": None}, changelog_offset=77)

    assert store.db.get(rocksdb.Store.offset_key) == b"77"
    assert list(disk.items(b"h")) == [(b"ha", b"1"), (b"hb", b"2")]
    disk.write({b"ha": None}, changelog_offset=78)
    assert disk.get(b"ha") is None
    store.db.close()
