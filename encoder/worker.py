"""What the gRPC face calls: checks states, looks into the caches, hands work to the batcher.

Everything here but the model's computations runs on the event loop; those run on one thread.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from encoder.batching import Batcher
from encoder.bundle import Bundle
from encoder.caches import BlockCache, ItemCache, ItemKey, KnownItem
from encoder.codebook import Floats
from encoder.engine import EncodedItems, Engine, UserInput, UserOutput
from encoder.items import NO_VECTOR
from encoder.segment_rows import Memory
from encoder.sessions import SessionStep, session_input
from encoder.settings import EncoderSettings
from encoder.states import CheckedState, Known, Versions, check_state, invalid
from encoder.user_slots import UserSlots
from protos.keys import text_digest
from protos.rec.v1.encoder_pb2 import UserResult, UserState
from protos.segments import Columns

MAX_ITEM_JOBS = 4096


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
class Computed:
    """A refreshed user: the state that was computed, and what came out."""

    checked: CheckedState
    output: UserOutput

    def made(self) -> list[tuple[bytes, Memory]]:
        """Return digest and memory of the blocks that were computed now."""
        user = self.checked.user
        blocks = zip(user.digests, user.blocks, strict=True)
        digests = [digest for digest, block in blocks if isinstance(block, Columns)]
        return list(zip(digests, self.output.memories, strict=True))

    def closed(self) -> list[tuple[bytes, Memory]]:
        """Return digest and memory of the blocks that came as segments, computed now or known."""
        made = dict(self.made())
        digests, blocks = self.checked.user.digests, self.checked.user.blocks
        found = []
        for place in self.checked.sent_as_segments:
            block = blocks[place]
            memory = made[digests[place]] if isinstance(block, Columns) else block
            found.append((digests[place], memory))
        return found


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the engine can do ahead (`encoder.batching.Chores`)."""

    engine: Engine

    def is_due(self) -> bool:
        return self.engine.is_due

    def do(self) -> None:
        self.engine.prepare()


class Worker:
    """Make it inside the running loop."""

    def __init__(
        self, bundle: Bundle, settings: EncoderSettings, compiled_folder: Path | None = None
    ) -> None:
        """
        Args:
            compiled_folder: where compiled passes are kept; None compiles nothing.
        """
        self.bundle = bundle
        self.versions = Versions(bundle.model_version, bundle.codebook_version)
        self._slots = UserSlots(
            bundle.model,
            torch.device(settings.device),
            n_bytes=settings.max_cached_user_bytes,
            idle_s=settings.max_user_idle_s,
        )
        self._engine = Engine(
            bundle, settings.device, users=self._slots, compiled_folder=compiled_folder
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="torch")
        self._items = ItemCache(settings.max_cached_items)
        self._blocks = BlockCache(settings.max_cached_block_bytes)
        self._rows = {item_id: row for row, item_id in enumerate(bundle.catalogue.item_ids)}
        self._unknown = self._engine.unknown_item()
        self._light, self._refined = (
            Batcher[UserInput, UserOutput](
                lane,
                self._engine.refresh,
                self._thread,
                max_tokens=settings.max_batch_tokens,
                max_wait_ms=settings.max_queue_delay_ms,
                max_queued=settings.max_queued_users,
                chores=chores,
            )
            for lane, chores in (("light", None), ("refined", Preparation(self._engine)))
        )
        self._texts = Batcher[NamedText, EncodedItem](
            "items",
            self._encode,
            self._thread,
            max_tokens=settings.max_batch_tokens,
            max_wait_ms=settings.max_queue_delay_ms,
            max_queued=MAX_ITEM_JOBS,
        )

    async def warm_up(self) -> None:
        """Encode the bundle's catalogue and compute one user of each tier, so that no caller waits
        for the first time of anything."""
        catalogue, tenant = self.bundle.catalogue, self.bundle.config.tenant
        named = [
            NamedText((tenant, item_id, text_digest(text)), text)
            for item_id, text in zip(catalogue.item_ids, catalogue.texts, strict=True)
        ]
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, self._encode, named)
        self._items.pin(
            (item.key, encoded.known) for item, encoded in zip(named, found, strict=True)
        )
        steps = [SessionStep(encoded.known, 1, 0) for encoded in found[:2]]
        if steps:
            for refine in (False, True):
                await self.session(steps, refine=refine, deadline=None)

    async def refresh(
        self,
        states: Sequence[UserState],
        texts: Sequence[NamedText],
        gone: frozenset[ItemKey],
        deadline: float | None,
    ) -> list[Computed | UserResult]:
        """Compute users; a state that cannot be computed becomes its own result.

        Raises:
            Overloaded: the queue has no room for all of them.
            TooLate: the deadline came first.
        """
        sent = await self.encode(texts, deadline)
        known = Known(
            self._items,
            self._blocks,
            {named.key: item.known for named, item in zip(texts, sent, strict=True)},
            gone,
            self._unknown,
        )
        checked = [check_state(state, self.bundle.config, self.versions, known) for state in states]
        ready = [state for state in checked if isinstance(state, CheckedState)]
        n_refined = sum(state.user.refine for state in ready)
        self._refined.reserve(n_refined)
        self._light.reserve(len(ready) - n_refined)
        outputs = await asyncio.gather(*(self._submit(state.user, deadline) for state in ready))
        computed = iter([Computed(*pair) for pair in zip(ready, outputs, strict=True)])
        return [self._kept(next(computed)) if isinstance(s, CheckedState) else s for s in checked]

    async def encode(self, texts: Sequence[NamedText], deadline: float | None) -> list[EncodedItem]:
        """Encode items and remember them. Raises as `refresh`."""
        limit = self.bundle.config.max_item_tokens
        self._texts.reserve(len(texts))
        found = await asyncio.gather(
            *(self._texts.submit(named, limit, deadline) for named in texts)
        )
        for named, item in zip(texts, found, strict=True):
            self._items.put(named.key, item.known)
        return found

    async def session(
        self, steps: Sequence[SessionStep], *, refine: bool, deadline: float | None
    ) -> UserOutput:
        """Compute the interests of a list of events. Raises as `refresh`."""
        codebook = int(self.versions.codebook, 16)
        user = session_input(steps, self.bundle.config, codebook=codebook, refine=refine)
        return await self._submit(user, deadline)

    def newest_items(self, names: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], KnownItem]:
        """Look (tenant, item_id) up at the newest revision known; unknown ones are left out."""
        found = {name: self._items.newest(*name) for name in names}
        return {name: item for name, item in found.items() if item is not None}

    async def close(self) -> None:
        await self._light.close()
        await self._refined.close()
        await self._texts.close()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _submit(self, user: UserInput, deadline: float | None) -> UserOutput:
        """Compute a user in his lane: who asks for little waits for one batch of others at most."""
        lane = self._refined if user.refine else self._light
        return await lane.submit(user, user.n_tokens, deadline)

    def _kept(self, computed: Computed) -> Computed | UserResult:
        if not computed.output.is_finite:
            return invalid("blocks hold numbers so great that no interests come of them")
        for digest, memory in computed.made():
            self._blocks.put(digest, memory)
        return computed

    def _encode(self, texts: Sequence[NamedText]) -> list[EncodedItem]:
        """Runs on the torch thread."""
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
        is_ours = tenant == self.bundle.config.tenant
        return self._rows.get(item_id, NO_VECTOR) if is_ours else NO_VECTOR
