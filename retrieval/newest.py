"""Which items of a tenant were made last: a row for each item in the store, newest first.

Written together with the item, so that a restart knows them at once. An item without created_at_ms
has no row.
"""

import struct
from collections.abc import Iterator

from protos.keys import split_key
from protos.rec.v1.items_pb2 import Item, ItemVector
from retrieval.store import ITEMS, META, NEWEST, Batch, Store

_FAR_MS = 2**63 - 1
_LISTED = b"newest"


def list_item(batch: Batch, key: bytes, before: Item | None, created_at_ms: int | None) -> None:
    """List an item (tenant/item) instead of what it was before (None: it is new); without a time it
    goes."""
    if before is not None:
        if before.created_at_ms == created_at_ms:
            return
        if before.created_at_ms > 0:
            batch.delete(NEWEST, _row(key, before.created_at_ms))
    if created_at_ms is not None and created_at_ms > 0:
        batch.put(NEWEST, _row(key, created_at_ms), b"")


def newest(store: Store, tenant: str, *, since_ms: int, until_ms: int) -> Iterator[bytes]:
    """Yield the keys of items made within these times, newest first."""
    begin = tenant.encode() + b"\0"
    for row, _ in store.scan(NEWEST, begin, begin + _place(until_ms)):
        at = len(begin)
        if _FAR_MS - struct.unpack_from(">Q", row, at)[0] < since_ms:
            return
        yield row[at + 8 :]


def list_if_never(store: Store) -> None:
    """List the items of a store that was filled before they were listed."""
    if store.get(META, _LISTED) is not None:
        return
    batch = store.batch()
    for key, raw in store.scan(ITEMS, b""):
        created_at_ms = ItemVector.FromString(raw).item.created_at_ms
        if created_at_ms > 0:
            batch.put(NEWEST, _row(key, created_at_ms), b"")
    batch.put(META, _LISTED, b"1")
    batch.write()


def _row(key: bytes, created_at_ms: int) -> bytes:
    return split_key(key)[0].encode() + b"\0" + _place(created_at_ms) + key


def _place(created_at_ms: int) -> bytes:
    return struct.pack(">Q", _FAR_MS - created_at_ms)
