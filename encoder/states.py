"""A user's state from the wire, checked: every field that could harm a computation, by name.

A state is refused alone (INVALID with a reason, NEED_BLOCKS, NEED_ITEMS, STALE_MODEL); the other
users of the request never notice.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat

import numpy as np

from encoder.caches import BlockCache, ItemCache, ItemKey, KnownItem
from encoder.config import ModelConfig
from encoder.items import ItemState
from encoder.plan import UserInput
from encoder.segment_rows import Memory
from protos.actions import actions_by_code
from protos.errors import InvalidInput, VersionMismatch
from protos.keys import checked_tenant
from protos.rec.v1.encoder_pb2 import (
    RESULT_STATUS_INVALID,
    RESULT_STATUS_NEED_BLOCKS,
    RESULT_STATUS_NEED_ITEMS,
    RESULT_STATUS_STALE_MODEL,
    Block,
    UserResult,
    UserState,
)
from protos.rec.v1.interests_pb2 import (
    TIER_LIGHT,
    TIER_REFINED,
    TIER_UNSPECIFIED,
    RecentItem,
)
from protos.segments import DIGEST_BYTES, Columns, segment_columns, split_digests

MAX_BLOCKS = 256
"""Far above what any model reads; a request beyond it is an error, not a long history."""


@dataclass(frozen=True, slots=True)
class Versions:
    model: str
    codebook: str


@dataclass(frozen=True, slots=True)
class Known:
    """What a check may look up."""

    items: ItemCache
    blocks: BlockCache
    sent_items: Mapping[ItemKey, KnownItem]
    """Of this very request; cannot be evicted meanwhile."""
    gone: frozenset[ItemKey]
    unknown_item: KnownItem


@dataclass(frozen=True, slots=True)
class CheckedState:
    user: UserInput
    sent_as_segments: Sequence[int]
    """Places in `user.blocks` of the blocks whose memory the sender lacks."""


class _Refused(Exception):
    """Not an error: an answer that ends the check."""

    def __init__(self, result: UserResult) -> None:
        super().__init__()
        self.result = result


def check_state(
    state: UserState, config: ModelConfig, versions: Versions, known: Known
) -> CheckedState | UserResult:
    """Return the state ready to compute, or the result that says why not."""
    try:
        return _check(state, config, versions, known)
    except _Refused as refused:
        return refused.result
    except (InvalidInput, VersionMismatch) as error:
        return invalid(str(error))


def invalid(reason: str) -> UserResult:
    return UserResult(status=RESULT_STATUS_INVALID, reason=reason)


def _check(state: UserState, config: ModelConfig, versions: Versions, known: Known) -> CheckedState:
    if (state.model_version, state.codebook_version) != (versions.model, versions.codebook):
        reason = f"this worker serves model {versions.model}, codebook {versions.codebook}"
        raise _Refused(UserResult(status=RESULT_STATUS_STALE_MODEL, reason=reason))
    tenant = checked_tenant(state.tenant)
    if state.tier not in (TIER_UNSPECIFIED, TIER_LIGHT, TIER_REFINED):
        raise InvalidInput(f"tier is {state.tier}; give LIGHT or REFINED")
    open_segment = _columns("open_segment", state.open_segment, config, versions)
    _check_counts(state, len(open_segment.actions), config)
    blocks, digests, sent = _blocks(state, config, versions, known.blocks)
    refine = state.tier != TIER_LIGHT
    window = _window(state, tenant, config, known) if refine else []
    name = (tenant, state.user_id)
    n_out = config.window_start(state.n_events + 1) - config.window_start(state.n_events)
    user = UserInput(blocks, open_segment, window, refine, digests, name, n_out)
    return CheckedState(user, sent)


def _check_counts(state: UserState, n_open: int, config: ModelConfig) -> None:
    if n_open >= config.segment_size:
        raise InvalidInput(
            f"open_segment has {n_open} events; one of {config.segment_size} is closed"
        )
    n_events = state.n_closed_segments * config.segment_size + n_open
    if state.n_events != n_events:
        raise InvalidInput(
            f"n_events is {state.n_events}, but n_closed_segments and open_segment make {n_events}"
        )
    if n_events == 0:
        raise InvalidInput("n_events is 0; a user without events has no interests")
    n_recent, n_texts = len(state.recent_item_ids), len(state.recent_text_digests)
    if n_recent > config.recent_size:
        raise InvalidInput(
            f"recent_item_ids has {n_recent} items, the model reads {config.recent_size}"
        )
    if n_texts != n_recent:
        raise InvalidInput(f"recent_text_digests has {n_texts} entries for {n_recent} items")
    n_names, rest = divmod(len(state.block_digests), DIGEST_BYTES)
    if rest:
        raise InvalidInput(
            f"block_digests has {len(state.block_digests)} bytes, no multiple of {DIGEST_BYTES}"
        )
    if n_names > min(MAX_BLOCKS, state.n_closed_segments):
        raise InvalidInput(
            f"block_digests has {n_names} names for {state.n_closed_segments} closed segments"
        )
    least = min(config.n_blocks, state.n_closed_segments)
    if n_names < least:
        raise InvalidInput(f"block_digests has {n_names} names, {least} are read")


def _columns(field: str, blob: bytes, config: ModelConfig, versions: Versions) -> Columns:
    """Read a segment's bytes, or raise InvalidInput naming the field."""
    try:
        columns = segment_columns(blob)
    except (ValueError, struct.error) as error:
        raise InvalidInput(f"{field}: {error}") from error
    except VersionMismatch as error:
        raise InvalidInput(f"{field}: {error}") from error
    if columns.codes.shape[1] != config.n_levels:
        raise InvalidInput(f"{field}: Q is {columns.codes.shape[1]}, not {config.n_levels}")
    if config.n_centres < 256 and columns.codes.max(initial=0) >= config.n_centres:
        greatest = columns.codes.max()
        raise InvalidInput(f"{field}: a code is {greatest}, not below {config.n_centres}")
    if undeclared := columns.actions.tobytes().translate(None, _declared_actions()):
        raise InvalidInput(f"{field}: action {min(undeclared)} is not declared")
    if columns.coded.any() and columns.codebook_version != int(versions.codebook, 16):
        raise InvalidInput(
            f"{field}: coded with codebook {columns.codebook_version:016x}, not {versions.codebook}"
        )
    return columns


@cache
def _declared_actions() -> bytes:
    """Return the codes that are declared."""
    return bytes(actions_by_code())


def _blocks(
    state: UserState, config: ModelConfig, versions: Versions, memories: BlockCache
) -> tuple[list[Memory | Columns], list[bytes], list[int]]:
    """Resolve blocks: memory from the request or the cache, else the segment to compute it from.

    Returns the blocks that are read (the older ones left out), their digests, and the places of
    those that came as segments.
    """
    digests = split_digests(state.block_digests)
    if not state.blocks:
        remembered = memories.find(digests)
        known: list[Memory | Columns] = [block for block in remembered if block is not None]
        if len(known) == len(digests):  # nearly always
            return known[-config.n_blocks :], digests[-config.n_blocks :], []
        found: list[Memory | Columns | None] = list(remembered)
    else:
        found = _sent(state.blocks, digests, config, versions, memories)
    n = len(found)
    needed = set(range(max(0, n - config.n_blocks), n))
    for place, content in enumerate(found):
        if isinstance(content, Columns):
            needed |= set(range(max(0, place - config.n_blocks), place + 1))
    missing = [digests[place] for place in sorted(needed) if found[place] is None]
    if missing:
        raise _Refused(UserResult(status=RESULT_STATUS_NEED_BLOCKS, need_blocks=missing))
    first = min(needed, default=0)
    # A hole that nobody reads would still shift the ages of the others.
    contents = [content for content in found[first:] if content is not None]
    if len(contents) != n - first:
        pairs = zip(digests[first:], found[first:], strict=True)
        holes = [digest for digest, content in pairs if content is None]
        raise _Refused(UserResult(status=RESULT_STATUS_NEED_BLOCKS, need_blocks=holes))
    as_segments = {block.digest for block in state.blocks if block.HasField("segment")}
    sent = [place for place, digest in enumerate(digests[first:]) if digest in as_segments]
    return contents, digests[first:], sent


def _sent(
    blocks: Sequence[Block],
    digests: Sequence[bytes],
    config: ModelConfig,
    versions: Versions,
    memories: BlockCache,
) -> list[Memory | Columns | None]:
    """Read what was sent of the named blocks, and prefer the cache's memory to a segment."""
    contents = {
        block.digest: _content(f"blocks[{index}]", block, config, versions)
        for index, block in enumerate(blocks)
    }
    if unnamed := contents.keys() - set(digests):
        raise InvalidInput(f"blocks: {min(unnamed).hex()} is not named in block_digests")
    sought = [digest for digest in digests if not isinstance(contents.get(digest), np.ndarray)]
    cached = dict(zip(sought, memories.find(sought), strict=True))
    return [
        contents.get(digest) if cached.get(digest) is None else cached[digest] for digest in digests
    ]


def _content(field: str, block: Block, config: ModelConfig, versions: Versions) -> Memory | Columns:
    if block.HasField("memory"):
        return _memory(field, block.memory, config)
    if not block.HasField("segment"):
        raise InvalidInput(f"{field} has no content; to name it, block_digests will do")
    segment = _columns(f"{field}.segment", block.segment, config, versions)
    if len(segment.actions) != config.segment_size:
        raise InvalidInput(
            f"{field}.segment has {len(segment.actions)} events, a closed one {config.segment_size}"
        )
    return segment


def _memory(field: str, blob: bytes, config: ModelConfig) -> Memory:
    if len(blob) != config.block_bytes:
        raise InvalidInput(f"{field}.memory has {len(blob)} bytes, not {config.block_bytes}")
    shape = (config.light_layers, 2, config.n_memory, config.light_width)
    memory = np.frombuffer(blob, "<f2").reshape(shape)
    if not np.isfinite(memory).all():
        raise InvalidInput(f"{field}.memory holds a number that is not finite")
    return memory


def _window(state: UserState, tenant: str, config: ModelConfig, known: Known) -> list[ItemState]:
    """Cut the window of recent items and look each up."""
    length = state.n_events - config.window_start(state.n_events)
    item_ids = state.recent_item_ids[-length:]
    if len(item_ids) < length:
        raise InvalidInput(f"recent_item_ids has {len(item_ids)} items, the window {length}")
    digests = state.recent_text_digests[-length:]
    keys = list(zip(repeat(tenant, length), item_ids, digests, strict=True))
    items = known.items.find(keys)
    if known.gone or known.sent_items or None in items:
        items = _supplied(keys, items, known)
    missing = dict.fromkeys(key for key, item in zip(keys, items, strict=True) if item is None)
    if missing:
        needed = [RecentItem(item_id=name, text_digest=digest) for _, name, digest in missing]
        raise _Refused(UserResult(status=RESULT_STATUS_NEED_ITEMS, need_items=needed))
    return [item.state for item in items if item]


def _supplied(
    keys: Sequence[ItemKey], items: Sequence[KnownItem | None], known: Known
) -> list[KnownItem | None]:
    """Return items, with what the request itself says of them: those that are gone, or whose text
    nobody has, are all the same one."""
    return [
        known.unknown_item
        if key[2] == 0 or key in known.gone
        else known.sent_items.get(key) or item
        for key, item in zip(keys, items, strict=True)
    ]
