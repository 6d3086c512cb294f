"""What all users of RocksDB here share: keys and values are bytes."""

from collections.abc import Iterator, Mapping

from rocksdict import Rdict, WriteBatch


def batch_of(changes: Mapping[bytes, bytes | None]) -> WriteBatch:
    """Return changes as one write, all of it or nothing; None deletes."""
    batch = WriteBatch(raw_mode=True)
    for key, value in changes.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch


def items_of(db: Rdict, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the keys that begin with `prefix`, in their order."""
    for key, value in db.items(from_key=prefix):
        assert isinstance(key, bytes)  # the store is opened in raw mode
        if not key.startswith(prefix):
            return
        yield key, value
