"""What a replica knows, on its own disk: one RocksDB, so that a restart serves at once.

    U tenant/user                       UserInterests as it came, with its "received" hop
    F tenant/user                       the last good Interests of another kind (interests.py)
    E tenant/user                       i64 offset of the user's erasure
    S tenant/user NUL u32be segment     SeenSegment; offset -1: provisional (interests.py)
    I tenant/item                       ItemVector as it came
    A tenant NUL name                   JSON: how many items carry the attribute, by kind
    B tenant NUL name                   the same, of attributes beyond what filters may name
    N tenant NUL u64be time, tenant/item    empty: items by age, the newest first (newest.py)
    T tenant/category NUL u32be number  TrendingList of that partition, as it came
    O topic or collection               JSON: next offset by partition
    M name                              what the store belongs to

A batch of records and the offset behind it are written together, so a crash repeats nothing and
loses nothing. Everything is a copy of topics: a store that belongs to another Kafka is thrown away.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, Options, Rdict

from infra.rocks import batch_of
from protos.errors import NotReady

USERS, FALLBACKS, ERASURES, SEEN, ITEMS, ATTRIBUTES, BEYOND, NEWEST, TRENDING, OFFSETS, META = (
    b"U", b"F", b"E", b"S", b"I", b"A", b"B", b"N", b"T", b"O", b"M",
)  # fmt: skip


class Batch:
    """Writes that happen together or not at all; `get` sees them before they do."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._changes: dict[bytes, bytes | None] = {}

    def get(self, table: bytes, key: bytes) -> bytes | None:
        if table + key in self._changes:
            return self._changes[table + key]
        return self._store.get(table, key)

    def put(self, table: bytes, key: bytes, value: bytes) -> None:
        self._changes[table + key] = value

    def delete(self, table: bytes, key: bytes) -> None:
        self._changes[table + key] = None

    def delete_prefix(self, table: bytes, prefix: bytes) -> None:
        for key, _ in self._store.scan(table, prefix):
            self.delete(table, key)
        for key in [key for key in self._changes if key.startswith(table + prefix)]:
            self._changes[key] = None

    def write(self) -> None:
        self._store.apply(self._changes)


class Store:
    """Safe between threads: RocksDB is; one thread writes each table."""

    def __init__(self, path: Path) -> None:
        """Raises NotReady when another process holds the folder."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = self._open()

    def _open(self) -> Rdict:
        options = Options(raw_mode=True)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(Cache(16 * 2**20))
        blocks.set_bloom_filter(10, False)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_size(16 * 2**20)
        options.set_keep_log_file_num(2)
        try:
            return Rdict(str(self._path), options=options)
        except Exception as error:  # rocksdict raises bare Exceptions
            raise NotReady(
                f"cannot open {self._path}: {error}; is another retrieval.server running on this "
                "state folder? give each its own FRESHET_STATE"
            ) from error

    def close(self) -> None:
        self._db.close()

    def clear(self) -> None:
        """Throw everything away."""
        self._db.close()
        shutil.rmtree(self._path)
        self._db = self._open()

    def get(self, table: bytes, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(table + key)
        return value

    def put(self, table: bytes, key: bytes, value: bytes) -> None:
        self._db[table + key] = value

    def batch(self) -> Batch:
        return Batch(self)

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        self._db.write(batch_of(changes))

    def scan(
        self, table: bytes, prefix: bytes, start: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) in the order of the keys: those that begin with `prefix`, from
        `start` on."""
        iterator = self._db.iter()
        iterator.seek(table + max(prefix, start))
        while iterator.valid():
            key = iterator.key()
            if not key.startswith(table + prefix):
                return
            yield key[len(table) :], iterator.value()
            iterator.next()

    def next_offsets(self, name: str) -> dict[int, int]:
        """Return where to go on reading, by partition; empty: from the beginning."""
        raw = self.get(OFFSETS, name.encode())
        return {int(number): offset for number, offset in json.loads(raw or b"{}").items()}


def put_offsets(batch: Batch, name: str, next_offsets: Mapping[int, int]) -> None:
    """Remember, together with the batch, where to go on reading."""
    batch.put(OFFSETS, name.encode(), json.dumps(next_offsets).encode())
