"""Reads what a run with crashes has left: topics and disks, for the verdict."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from rocksdict import Options, Rdict

from infra.kafka_log import open_log
from protos.rec.v1.interests_pb2 import UserInterests
from stream.bench.acknowledged import EventName
from stream.bench.histories import History, UserKey, decode_histories, differences
from stream.bench.oracle import OracleUser, replay
from stream.bench.verdict import (
    DeadLetter,
    Logged,
    Verdict,
    account,
    read_log,
    stale_users,
    unequal_seen,
)
from stream.bench.world import N_PARTITIONS, OracleRecord, StreamWorld
from stream.store import POSITION_KEY, unpack_position


class Aftermath:
    """Read once the log has ended: what must be, and then what is."""

    def __init__(self, world: StreamWorld) -> None:
        self._world = world
        self.log: list[OracleRecord] = world.log()
        self.logged: Logged = read_log(self.log)
        self.oracle: dict[UserKey, OracleUser] = replay(self.log)
        self._encoded: dict[UserKey, int] = {}
        self._read_to: dict[int, int] = {}

    @property
    def n_events(self) -> int:
        return sum(map(len, self.logged.names.values()))

    def wait_fresh(self, deadline_s: float) -> None:
        """Wait until every user's newest state is of his newest record, or for so long."""
        gives_up_at = time.monotonic() + deadline_s
        while self._stale() and time.monotonic() < gives_up_at:
            time.sleep(0.5)

    def verdict(self, acknowledged: Iterable[EventName]) -> Verdict:
        """Judge. The workers have ended."""
        world, histories = self._world, self._world.states()
        seen = {record.key: record.value for record in world.read(world.topics.seen)}
        return Verdict(
            account(frozenset(acknowledged), self.logged, histories),
            changelog=differences(histories, self.oracle),
            disks=differences(self._on_disk(), self.oracle),
            stale=stale_users(self._encoded, self.oracle),
            seen=unequal_seen(seen, self.oracle),
            lost_letters=sorted(self.logged.dead - self._buried()),
        )

    def _stale(self) -> bool:
        """Read rec.interests on; whether anybody waits for a newer state."""
        with open_log(self._world.bootstrap, self._world.topics.interests) as interests:
            _, ends = interests.bounds()
            starts = {number: self._read_to.get(number, 0) for number in ends}
            for record in interests.read(starts, ends):
                state = UserInterests.FromString(record.value)
                self._encoded[state.tenant, state.user_id] = state.encoded_offset
        self._read_to |= ends
        return bool(stale_users(self._encoded, self.oracle))

    def _buried(self) -> frozenset[DeadLetter]:
        letters = self._world.read(self._world.topics.dead_letters)
        sources = (dict(letter.headers) for letter in letters)
        return frozenset(
            (int(at["source_partition"]), int(at["source_offset"]), int(at["event_index"]))
            for at in sources
        )

    def _on_disk(self) -> dict[UserKey, History]:
        """Read each partition from the disk of its last owner: whose position is the log's end."""
        ends: dict[int, int] = {}
        for record in self.log:
            ends[record.partition] = record.offset + 1
        newest: dict[bytes, bytes] = {}
        for number in range(N_PARTITIONS):
            for path in self._world.folder.glob(f"stream/*/**/histories-{number}.db"):
                stored = _rocksdb(path)
                position = stored.get(POSITION_KEY)
                if position is not None and unpack_position(position) == ends.get(number):
                    newest |= stored
        return decode_histories(newest)


def _rocksdb(path: Path) -> Mapping[bytes, bytes]:
    database = Rdict(str(path), options=Options(raw_mode=True))
    try:
        stored = {key: value for key, value in database.items() if isinstance(key, bytes)}
    finally:
        database.close()
    return {key: value for key, value in stored.items() if not key.startswith(b"__faust")}
