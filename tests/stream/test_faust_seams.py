"""faust is pinned; these say at once what an upgrade took away."""

import inspect
from importlib.metadata import version

import faust
import pytest
from faust.stores import rocksdb
from faust.tables import TableManager, recovery
from faust.transport import consumer as transport
from faust.transport.drivers import aiokafka as driver

from stream.faust_seams import PRIVATE_NAMES, RocksDisk, Tables


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
