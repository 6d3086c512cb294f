"""All that happens on the one thread that computes: from states on the wire to answers on the wire.

Caches of items, blocks and users belong to it. The event loop, on the other thread, only moves
messages: checking a user's state takes longer than receiving it, and two threads of Python that
both have work wait for each other at every step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from encoder.bundle import Bundle
from encoder.caches import BlockCache, ItemCache, ItemKey, KnownItem
from encoder.codebook import Floats
from encoder.engine import EncodedItems, Engine, Planned, UserOutput
from encoder.items import NO_VECTOR
from encoder.plan import UserInput
from encoder.segment_rows import Memory
from encoder.states import CheckedState, Known, Versions, check_state, invalid
from protos.keys import text_digest
from protos.rec.v1.encoder_pb2 import RESULT_STATUS_OK, Block, UserResult, UserState
from protos.rec.v1.interests_pb2 import TIER_LIGHT, TIER_REFINED, Interests
from protos.rec.v1.items_pb2 import DTYPE_F32
from protos.segments import Columns


@dataclass(frozen=True, slots=True)
class NamedText:
    """A revision of an item, with its text."""

    key: ItemKey
    text: str


@dataclass(frozen=True, slots=True)
class EncodedItem:
    known: KnownItem
    embedding: Floats  # (D,)


@dataclass(frozen=True, slots=True)
class UserJob:
    """A user of a request."""

    state: UserState
    sent_items: Mapping[ItemKey, KnownItem]
    """Of this very request; cannot be evicted meanwhile."""
    gone: frozenset[ItemKey]

    @property
    def is_light(self) -> bool:
        return self.state.tier == TIER_LIGHT

    def n_tokens(self, segment_size: int) -> int:
        """Return about how many events and items there are at most to compute."""
        state = self.state
        n_open = state.n_events - state.n_closed_segments * segment_size
        n_segments = sum(block.HasField("segment") for block in state.blocks)
        n_items = 0 if self.is_light else len(state.recent_item_ids)
        return max(1, min(segment_size, n_open)) + n_segments * segment_size + n_items


@dataclass(frozen=True, slots=True)
class PlannedUsers:
    checked: Sequence[CheckedState | UserResult]
    """What is to compute of each, or the answer that says why it cannot be."""
    ready: Planned | None
    """None when nothing is."""


class Compute:
    """For one thread, but for `is_due`."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        items: ItemCache,
        blocks: BlockCache,
        model_sequence: int,
    ) -> None:
        self._bundle, self._engine = bundle, engine
        self._items, self._blocks = items, blocks
        self._versions = Versions(bundle.model_version, bundle.codebook_version)
        self._rows = {item_id: row for row, item_id in enumerate(bundle.catalogue.item_ids)}
        self._unknown = KnownItem(engine.unknown_item(), codes=b"")  # nobody asks for them
        self._no_interests = Interests(
            model_version=bundle.model_version,
            codebook_version=bundle.codebook_version,
            model_sequence=model_sequence,
            dtype=DTYPE_F32,
            n_interests=bundle.config.n_interests,
            dim=bundle.config.dim,
        )
        """What the answers to all have in common."""

    def pin_catalogue(self) -> list[KnownItem]:
        """Encode the bundle's own items, for ever, and return them."""
        catalogue, tenant = self._bundle.catalogue, self._bundle.config.tenant
        named = [
            NamedText((tenant, item_id, text_digest(text)), text)
            for item_id, text in zip(catalogue.item_ids, catalogue.texts, strict=True)
        ]
        found = [item.known for item in self._encoded(named)]
        self._items.pin((one.key, known) for one, known in zip(named, found, strict=True))
        return found

    def encode(self, texts: Sequence[NamedText]) -> list[EncodedItem]:
        """Encode items and remember them."""
        found = self._encoded(texts)
        for named, item in zip(texts, found, strict=True):
            self._items.put(named.key, item.known)
        return found

    def renew(self, texts: Sequence[NamedText]) -> list[NamedText]:
        """Make these revisions the newest; return those that are not known."""
        return [named for named in texts if not self._items.renew(named.key)]

    def newest_items(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], KnownItem]:
        """Look (tenant, item_id) up at the newest revision known; unknown ones are left out."""
        found = {name: self._items.newest(*name) for name in names}
        return {name: item for name, item in found.items() if item is not None}

    def plan(self, jobs: Sequence[UserJob]) -> "PlannedUsers":
        """Check users and plan what is to compute; a state that cannot be computed is refused
        alone. `refresh` must follow, and nothing between."""
        checked = [self._checked(job) for job in jobs]
        users = [one.user for one in checked if isinstance(one, CheckedState)]
        return PlannedUsers(checked, self._engine.plan(users) if users else None)

    def refresh(self, planned: "PlannedUsers") -> list[UserResult]:
        """Answer users."""
        outputs = iter(self._engine.run(planned.ready) if planned.ready else ())
        return [
            self._answer(one, next(outputs)) if isinstance(one, CheckedState) else one
            for one in planned.checked
        ]

    def plan_sessions(self, users: Sequence[UserInput]) -> Planned:
        """As `plan`; `sessions` must follow."""
        return self._engine.plan(users)

    def sessions(self, planned: Planned) -> list[Interests]:
        """Answer sessions, which nobody remembers."""
        outputs = self._engine.run(planned)
        found = [Interests() for _ in outputs]
        for to, user, output in zip(found, planned.users, outputs, strict=True):
            self._write_interests(to, output, refine=user.refine)
        return found

    def is_due(self) -> bool:
        """Return whether something can be computed ahead; for any thread."""
        return self._engine.is_due

    def do(self) -> None:
        """Compute a bit ahead (`encoder.batching.Chores`)."""
        self._engine.prepare()

    def _checked(self, job: UserJob) -> CheckedState | UserResult:
        known = Known(self._items, self._blocks, job.sent_items, job.gone, self._unknown)
        return check_state(job.state, self._bundle.config, self._versions, known)

    def _answer(self, checked: CheckedState, output: UserOutput) -> UserResult:
        if not output.is_finite:
            return invalid("blocks hold numbers so great that no interests come of them")
        result = UserResult(status=RESULT_STATUS_OK)
        self._write_interests(result.interests, output, refine=checked.user.refine)
        if checked.sent_as_segments or output.memories:
            result.closed_blocks.extend(self._closed(checked, output.memories))
        return result

    def _closed(self, checked: CheckedState, memories: Sequence[Memory]) -> list[Block]:
        """Remember blocks that were made now; return those that the sender lacks."""
        user = checked.user
        made = [place for place, one in enumerate(user.blocks) if isinstance(one, Columns)]
        for place, memory in zip(made, memories, strict=True):
            self._blocks.put(user.digests[place], memory)
        whole: dict[int, Memory] = dict(zip(made, memories, strict=True))
        closed = []
        for place in checked.sent_as_segments:
            # Another request's may have been remembered before this one was checked.
            block = whole.get(place, user.blocks[place])
            assert not isinstance(block, Columns), "every segment was computed"
            closed.append(Block(digest=user.digests[place], memory=block.astype("<f2").tobytes()))
        return closed

    def _write_interests(self, to: Interests, output: UserOutput, *, refine: bool) -> None:
        """Fill a message where it stands: one that is made apart is copied."""
        to.MergeFrom(self._no_interests)
        to.tier = TIER_REFINED if refine else TIER_LIGHT
        to.vectors = output.vectors.astype("<f4", copy=False).tobytes()
        to.weights.extend(output.weights.tolist())

    def _encoded(self, texts: Sequence[NamedText]) -> list[EncodedItem]:
        rows = [self._row(named.key) for named in texts]
        found: EncodedItems = self._engine.encode_items([named.text for named in texts], rows)
        return [
            EncodedItem(KnownItem(state, codes.tobytes()), embedding)
            for state, codes, embedding in zip(
                found.states, found.codes, found.embeddings, strict=True
            )
        ]

    def _row(self, key: ItemKey) -> int:
        tenant, item_id, _ = key
        is_ours = tenant == self._bundle.config.tenant
        return self._rows.get(item_id, NO_VECTOR) if is_ours else NO_VECTOR
