"""Memory blocks of closed segments, kept beside the histories so that a cold encoder need not
compute them again.

Derived, so without a changelog: it may be lost at any time, and is then asked of the encoder again.
A RocksDB a partition, which is removed when the partition belongs to another worker: an erasure
there could not reach it. Key: u16-BE length of the user key, user key, u32-BE segment index. Value:
the block's 16-byte digest, then its memory; a digest that differs (a new model, codes that came
later) means that it is stale.
"""

import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

from rocksdict import Options, Rdict

from stream.store import N_KEPT_SEGMENTS

_LENGTH = struct.Struct(">H")
_INDEX = struct.Struct(">I")
DIGEST_BYTES = 16
_WRITE_BUFFER_BYTES = 8 * 2**20


class BlockStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, Rdict] = {}

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Remove the blocks of all other partitions."""
        kept = set(partitions)
        for number in set(self._open) - kept:
            self._open.pop(number).close()
        for path in self._folder.glob("*.blocks") if self._folder.exists() else ():
            if int(path.stem) not in kept:
                shutil.rmtree(path)

    def get(self, partition: int, user_key: bytes, index: int, digest: bytes) -> bytes | None:
        """Return a block's memory, None when it is not kept or stale."""
        value: bytes | None = self._db(partition).get(_key(user_key, index))
        if value is None or value[:DIGEST_BYTES] != digest:
            return None
        return value[DIGEST_BYTES:]

    def put(
        self, partition: int, user_key: bytes, index: int, digest: bytes, memory: bytes
    ) -> None:
        """Keep a block; the one that retention has dropped goes."""
        db = self._db(partition)
        db[_key(user_key, index)] = digest + memory
        if index >= N_KEPT_SEGMENTS:
            db.delete(_key(user_key, index - N_KEPT_SEGMENTS))

    def delete_user(self, partition: int, user_key: bytes) -> None:
        """Remove all blocks of a user."""
        self._db(partition).delete_range(_key(user_key, 0), _key(user_key, 2**32 - 1))

    def close(self) -> None:
        for db in self._open.values():
            db.close()
        self._open.clear()

    def _db(self, partition: int) -> Rdict:
        if partition not in self._open:
            self._folder.mkdir(parents=True, exist_ok=True)
            options = Options(raw_mode=True)
            options.create_if_missing(True)
            options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
            path = str(self._folder / f"{partition}.blocks")
            self._open[partition] = Rdict(path, options=options)
        return self._open[partition]


def _key(user_key: bytes, index: int) -> bytes:
    return _LENGTH.pack(len(user_key)) + user_key + _INDEX.pack(index)
