"""Identities: tenants, ids, record keys and hashes, the same in every process and language.

    key of a user        tenant/user            "%" and "/" of both parts escaped as %25 and %2F
    key of an item       tenant/item            the same
    item hash            xxh64 of the item's key; its low 32 bits stand in histories
    event hash           xxh64 of the event_id
    text digest          xxh64 of the text that the model reads, never 0
    partition            murmur2 of the key, as Kafka's own default partitioner has it

All text is UTF-8.
"""

import re

import xxhash

from protos.errors import InvalidInput

DEFAULT_TENANT = "default"
MAX_ID_BYTES = 256

_TENANT = re.compile(r"[a-z0-9_-]{1,64}")


def checked_tenant(tenant: str) -> str:
    """Return the tenant, "default" for an empty one. Raises InvalidInput."""
    tenant = tenant or DEFAULT_TENANT
    if not _TENANT.fullmatch(tenant):
        raise InvalidInput(f"tenant {tenant[:70]!r} must match [a-z0-9_-]{{1,64}}")
    return tenant


def checked_id(value: str, field: str) -> str:
    """Return a user_id or item_id as it is. Raises InvalidInput naming the field."""
    if not value:
        raise InvalidInput(f"{field} is empty; give 1 to {MAX_ID_BYTES} bytes of UTF-8")
    if len(value.encode()) > MAX_ID_BYTES:
        raise InvalidInput(f"{field} has more than {MAX_ID_BYTES} bytes: {value[:40]!r}...")
    return value


def compose_key(*parts: str) -> bytes:
    """Join the parts of a record key with "/", escaping "/" inside them."""
    text = "/".join(parts)
    if "%" not in text and text.count("/") == len(parts) - 1:  # nearly all: nothing to escape
        return text.encode()
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts).encode()


def split_key(key: bytes) -> list[str]:
    """Return the parts that `compose_key` joined. Raises InvalidInput for bytes that are no
    UTF-8."""
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"record key is not UTF-8: {key[:40]!r}") from error
    return [part.replace("%2F", "/").replace("%25", "%") for part in text.split("/")]


def item_hash(tenant: str, item_id: str) -> int:
    """Return the u64 hash of an item."""
    return xxhash.xxh64_intdigest(compose_key(tenant, item_id))


def short_item_hash(tenant: str, item_id: str) -> int:
    """Return the u32 that stands for an item in histories. Two items may share one."""
    return item_hash(tenant, item_id) & 0xFFFFFFFF


def short_key_hash(key: bytes) -> int:
    """Return `short_item_hash` of an item from its key (tenant/item)."""
    return xxhash.xxh64_intdigest(key) & 0xFFFFFFFF


def event_hash(event_id: str) -> int:
    """Return the u64 by which retries of an event are recognised."""
    return xxhash.xxh64_intdigest(event_id.encode())


def item_text(title: str, text: str) -> str:
    """Return what the model reads of an item; empty when there is nothing to read."""
    return text or title


def text_digest(text: str) -> int:
    """Return the u64 that names a revision of an item's text; 0 is kept for "no text known"."""
    return xxhash.xxh64_intdigest(text.encode()) or 1
