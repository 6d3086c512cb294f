"""A user as he was at any point of the log: `freshet user --at`, the debugger of histories.

    rec.events, his partition, up to a record -> refold -> history, open and closed segments
                                    rec.item-vectors -> codes -> the cut that the worker made
                                             the encoder -> interests, as rec.interests had them

The same fold, cut and exchange as the worker's, over a partition that lives in memory. Two things
are not of the past: the items are as the catalogue has them now, and so is the model.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from protos.errors import FreshetError, NotReady, UnknownUser
from protos.history import FoldEvent
from protos.keys import compose_key
from protos.rec.v1.encoder_pb2 import ResultStatus
from protos.rec.v1.interests_pb2 import SeenSegment, Tier, UserInterests
from stream.catalogue import Catalogue
from stream.encoder_client import Model
from stream.exchange import Exchange, RefreshEncoder
from stream.folding import LogRecord
from stream.metrics import WorkerMetrics
from stream.partition import User
from stream.refold import Deed, Refold
from stream.states import cut_state, interests_record
from stream.store import N_KEPT_SEGMENTS
from stream.validation import PROTOBUF_TYPES

N_KEPT_EVENTS = N_KEPT_SEGMENTS * 128


@dataclass(frozen=True, slots=True)
class PastEvent:
    """One event of the history."""

    event: FoldEvent
    offset: int
    accepted_ms: int


@dataclass(slots=True)
class Past:
    tenant: str
    user_id: str
    refold: Refold
    events: deque[PastEvent] = field(default_factory=lambda: deque(maxlen=N_KEPT_EVENTS))
    """Those that count, since the last erasure, oldest first."""
    n_duplicates: int = 0
    n_dead_letters: int = 0
    n_erasures: int = 0
    n_records: int = 0
    """Of this user."""

    @property
    def key(self) -> bytes:
        return compose_key(self.tenant, self.user_id)

    @property
    def user(self) -> User:
        return self.refold.partition.user(self.key)

    def seen(self) -> list[SeenSegment]:
        """Return the closed segments as rec.seen had them."""
        head = self.user.head
        found = []
        for index in range(max(0, head.n_closed - N_KEPT_SEGMENTS), head.n_closed):
            segment = self.refold.partition.segment(self.key, index)
            assert segment is not None, f"segment {index} was folded and is not there"
            found.append(
                SeenSegment(
                    tenant=self.tenant,
                    user_id=self.user_id,
                    segment_index=index,
                    item_hashes=bytes(segment.hashes),
                    last_event_time_ms=head.last_event_time_ms,
                    offset=head.watermark,
                )
            )
        return found


def fold_past(
    records: Iterable[LogRecord], partition: int, n_partitions: int, tenant: str, user_id: str
) -> Past:
    """Fold the records of one user among those of his partition, in their order."""
    key = compose_key(tenant, user_id)
    refold = Refold(
        partition, n_partitions, wanted=lambda said: said.user_key == key, keep_segments=True
    )
    past = Past(tenant, user_id, refold)
    for record in _mentioning(records, user_id):
        refolded = refold.apply(record)
        if refolded.deed not in (Deed.APPLIED, Deed.ERASED):
            continue
        past.n_records += 1
        past.n_dead_letters += len(refolded.said.rejected)
        if refolded.folded is None:
            past.n_erasures += 1
            past.events.clear()
            continue
        past.n_duplicates += refolded.folded.n_duplicates
        past.events.extend(
            PastEvent(event, record.offset, record.timestamp) for event in refolded.folded.applied
        )
    return past


def _mentioning(records: Iterable[LogRecord], user_id: str) -> Iterator[LogRecord]:
    """Pass over protobuf records that do not hold the id's bytes: parsing costs ten times as
    much."""
    name = user_id.encode()
    for record in records:
        is_protobuf = all(value.startswith(PROTOBUF_TYPES) for _, value in record.headers)
        if not is_protobuf or name in (record.value or b""):
            yield record


async def interests_of(
    past: Past, encoder: RefreshEncoder, model: Model, catalogue: Catalogue
) -> UserInterests:
    """Return what rec.interests had of the user, with this model's interests.

    Raises:
        UnknownUser: he had no history.
        NotReady: another model serves by now.
        FreshetError: the encoder refused the state, or cannot be reached.
    """
    user = past.user
    if user.head.n_events == 0:
        raise UnknownUser(f"user {past.user_id!r} had no event at that point")
    partition = past.refold.partition
    cut = cut_state(partition, user, model, catalogue, Tier.TIER_REFINED)
    exchange = Exchange(
        encoder, catalogue, lambda key, index, digest: None, WorkerMetrics(CollectorRegistry())
    )
    cuts = {(partition.number, past.key): cut}
    async for answers in exchange.answers(cuts, model, lambda key, cut: True):
        for _, _, result in answers:
            if result.status == ResultStatus.RESULT_STATUS_OK:
                return interests_record(cut, result.interests, user.head.watermark)
            if result.status == ResultStatus.RESULT_STATUS_STALE_MODEL:
                raise NotReady("another model has begun to serve; ask again")
            raise FreshetError(f"the encoder refused the state: {result.reason}")
    raise AssertionError("an exchange ends with an answer or an error")
