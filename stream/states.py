"""From a head to what the encoder is asked, and from its answer to what the world is told.

A cut is one user's state at one record: all that an answer depends on, so that what is published
says exactly which records it includes, however many came meanwhile. Cutting also looks up codes
that were missing when their events came; what it finds is written back with the next checkpoint.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from protos.history import Head, Recent
from protos.keys import split_key
from protos.rec.v1.encoder_pb2 import Block, ItemText, UserState
from protos.rec.v1.interests_pb2 import Cause, Hop, Interests, RecentItem, Tier, UserInterests
from protos.segments import CodesOf, Segment, block_digests, split_digests
from stream.catalogue import Catalogue, item_key
from stream.encoder_client import Model
from stream.partition import Partition, User
from stream.store import N_KEPT_SEGMENTS, Published

Memory = Callable[[int, bytes], bytes | None]
"""(segment index, digest) -> the block's memory, or None when it is not kept"""


@dataclass(slots=True, eq=False)
class Cut:
    partition: Partition
    user_key: bytes
    state: UserState
    encoded_offset: int
    """The newest record in it."""
    cause: Cause
    accepted_ms: int
    folded_us: int
    first_block: int
    """Index of the first segment that `state` names."""
    recent: Sequence[Recent]
    """The items that `state` names, with what the encoder does not read of them."""
    is_void: bool = False
    """The user was erased since."""
    requested_us: int = 0

    @property
    def block_names(self) -> dict[int, bytes]:
        """The names of the blocks that `state` names, by index, oldest first."""
        return dict(enumerate(split_digests(self.state.block_digests), self.first_block))

    @property
    def is_wanted(self) -> bool:
        """Whether an answer still concerns this worker's user."""
        return self.partition.is_open and not self.is_void


def cut_state(
    partition: Partition, user: User, model: Model, catalogue: Catalogue, tier: Tier
) -> Cut:
    """Cut the state of a user who has events, for one model."""
    head = user.head
    codes_of = catalogue.codes_of(model.codebook)
    if _code(head.open, model.codebook, codes_of):
        partition.changed(user)
    digests = _visible_digests(partition, user, model, codes_of)
    tenant, user_id = split_key(user.key)
    recent = tuple(head.recent)
    state = UserState(
        tenant=tenant,
        user_id=user_id,
        model_version=model.model_version,
        codebook_version=model.codebook_version,
        block_digests=b"".join(digests),
        n_closed_segments=head.n_closed,
        open_segment=head.open.to_bytes(),
        recent_item_ids=[one.item_id for one in recent],
        recent_text_digests=[_text_digest(one, tenant, catalogue) for one in recent],
        n_events=head.n_events,
        tier=tier,
        accepted_ms=head.last_accepted_ms,
    )
    return Cut(
        partition,
        user.key,
        state,
        encoded_offset=head.watermark,
        cause=_cause(head, user, partition.published(user.key)),
        accepted_ms=head.last_accepted_ms,
        folded_us=user.folded_us,
        first_block=head.n_closed - len(digests),
        recent=recent,
    )


def send_blocks(cut: Cut, needed: Iterable[bytes], model: Model, memory: Memory) -> None:
    """Put the contents of the needed blocks into the cut's state: their memory where it is kept,
    else the segment, and then also the `block_depth` segments before it."""
    wanted, names = set(needed), cut.block_names
    contents = {block.digest: block for block in cut.state.blocks}
    as_segments: set[int] = set()
    for index, name in names.items():
        if name in wanted:
            kept = memory(index, name)
            if kept is not None:
                contents[name] = Block(digest=name, memory=kept)
            else:
                as_segments.update(range(max(0, index - model.block_depth), index + 1))
    if as_segments:
        # Segments that closed since the cut may have pushed the oldest ones out.
        oldest_kept = cut.partition.user(cut.user_key).head.n_closed - N_KEPT_SEGMENTS
        first, n_closed = max(oldest_kept, min(*names, *as_segments)), cut.state.n_closed_segments
        segments = _stored_segments(cut.partition, cut.user_key, first, n_closed)
        made = block_digests(model.model_version, segments, model.block_depth)
        # Names of before stay: those made without what stood before them would be others.
        names = {index: names.get(index, made[index - first]) for index in range(first, n_closed)}
        for index, segment in enumerate(segments, first):
            if index in as_segments and names[index] not in contents:
                contents[names[index]] = Block(digest=names[index], segment=segment)
        cut.state.block_digests, cut.first_block = b"".join(names.values()), first
    del cut.state.blocks[:]
    cut.state.blocks.extend(contents[name] for name in names.values() if name in contents)


def texts_for(
    needed: Sequence[RecentItem], tenant: str, catalogue: Catalogue
) -> tuple[list[ItemText], list[RecentItem]]:
    """Return the texts that the encoder asked for, and the items that have none any more."""
    texts: list[ItemText] = []
    gone: list[RecentItem] = []
    for wanted in needed:
        item = catalogue.get(item_key(tenant, wanted.item_id))
        if item is None or item.text_digest != wanted.text_digest:
            gone.append(wanted)
        else:
            texts.append(ItemText(tenant=tenant, item_id=wanted.item_id, text=item.text))
    return texts, gone


def interests_record(cut: Cut, interests: Interests, applied_offset: int) -> UserInterests:
    """Return what the world is told of a user."""
    state = cut.state
    hops = [Hop(name="accepted", at_us=cut.accepted_ms * 1000)]
    if cut.folded_us:
        hops.append(Hop(name="folded", at_us=cut.folded_us))
    now_us = time.time_ns() // 1000
    hops.append(Hop(name="requested", at_us=cut.requested_us))
    hops += [Hop(name="encoded", at_us=now_us), Hop(name="published", at_us=now_us)]
    return UserInterests(
        tenant=state.tenant,
        user_id=state.user_id,
        partition=cut.partition.number,
        applied_offset=applied_offset,
        encoded_offset=cut.encoded_offset,
        interests=interests,
        n_events=state.n_events,
        n_closed_segments=state.n_closed_segments,
        open_segment_hashes=bytes(Segment.from_bytes(state.open_segment).hashes),
        recent=[
            RecentItem(
                item_id=one.item_id,
                text_digest=digest,
                event_time_ms=one.event_time_ms,
                action=one.action,
            )
            for one, digest in zip(cut.recent, state.recent_text_digests, strict=True)
        ],
        cause=cut.cause,
        hops=hops,
    )


def plain_record(partition: Partition, user: User) -> UserInterests:
    """Return what the world is told of a user without events: that his records were disposed of."""
    tenant, user_id = split_key(user.key)
    return UserInterests(
        tenant=tenant,
        user_id=user_id,
        partition=partition.number,
        applied_offset=user.head.watermark,
        encoded_offset=user.head.watermark,
        hops=[Hop(name="published", at_us=time.time_ns() // 1000)],
        erased=user.head.erased,
    )


def _code(segment: Segment, codebook: int, codes_of: CodesOf) -> bool:
    """Bring a segment to a codebook, as far as the items are known; return whether it changed."""
    is_other = len(segment) > 0 and segment.codebook_version != codebook
    if is_other:
        segment.use_codebook(codebook)
    return bool(segment.n_missing and segment.fill_codes(codes_of)) or is_other


def _visible_digests(
    partition: Partition, user: User, model: Model, codes_of: CodesOf
) -> list[bytes]:
    """Return the names of the newest `n_blocks` closed segments, oldest first."""
    n_closed = user.head.n_closed
    n_visible = min(model.n_blocks, n_closed)
    if n_visible == 0:
        return []
    version = (model.model_version, n_closed)
    if user.digests is not None and user.digests[0] == version:
        return user.digests[1]
    first = max(0, n_closed - N_KEPT_SEGMENTS, n_closed - n_visible - model.block_depth)
    segments: list[bytes] = []
    n_missing = 0
    for index in range(first, n_closed):
        segment = _stored_segment(partition, user.key, index)
        if _code(segment, model.codebook, codes_of):
            partition.put_segment(user.key, index, segment)
        n_missing += segment.n_missing
        segments.append(segment.to_bytes())
    names = block_digests(model.model_version, segments, model.block_depth)[-n_visible:]
    # With codes still missing the names may change by the next time.
    user.digests = (version, names) if n_missing == 0 else None
    return names


def _stored_segments(partition: Partition, user_key: bytes, first: int, end: int) -> list[bytes]:
    return [_stored_segment(partition, user_key, i).to_bytes() for i in range(first, end)]


def _stored_segment(partition: Partition, user_key: bytes, index: int) -> Segment:
    segment = partition.segment(user_key, index)
    assert segment is not None, f"segment {index} of {user_key!r} is missing from its partition"
    return segment


def _text_digest(recent: Recent, tenant: str, catalogue: Catalogue) -> int:
    known = catalogue.get(item_key(tenant, recent.item_id))
    return known.text_digest if known is not None else 0


def _cause(head: Head, user: User, published: Published | None) -> Cause:
    before = published.n_events if published is not None else 0
    return Cause(
        event_id=head.last_event_id,
        offset=user.cause_offset if user.cause_offset >= 0 else head.watermark,
        accepted_ms=head.last_accepted_ms,
        item_id=head.recent[-1].item_id,
        n_events=max(0, head.n_events - before),
    )
