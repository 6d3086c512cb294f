"""What the gRPC face calls, on the event loop: hands work to the lanes of the one thread that
computes (encoder/compute.py), and awaits the answers."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from encoder.batching import Batcher
from encoder.bundle import Bundle
from encoder.caches import BlockCache, ItemCache, ItemKey, KnownItem
from encoder.compute import Compute, EncodedItem, NamedText, PlannedUsers, UserJob
from encoder.engine import Engine, Planned
from encoder.lane_thread import LaneThread
from encoder.plan import UserInput
from encoder.sessions import SessionStep, session_input
from encoder.settings import EncoderSettings
from encoder.states import Versions
from encoder.user_slots import UserSlots
from protos.rec.v1.encoder_pb2 import UserResult, UserState
from protos.rec.v1.interests_pb2 import Interests

MAX_ITEM_JOBS = 4096

_Users: TypeAlias = Batcher[UserJob, PlannedUsers, UserResult]


class Worker:
    """Make it inside the running loop."""

    def __init__(
        self,
        bundle: Bundle,
        settings: EncoderSettings,
        *,
        model_sequence: int = 0,
        compiled_folder: Path | None = None,
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
        self._items = ItemCache(settings.max_cached_items)
        self._blocks = BlockCache(settings.max_cached_block_bytes)
        engine = Engine(bundle, settings.device, users=self._slots, compiled_folder=compiled_folder)
        compute = Compute(bundle, engine, self._items, self._blocks, model_sequence)
        self._compute = compute
        self._thread = LaneThread("torch")
        lane = partial(
            Batcher,
            thread=self._thread,
            max_tokens=settings.max_batch_tokens,
            max_wait_ms=settings.max_queue_delay_ms,
            max_queued=settings.max_queued_users,
        )
        # Who asks for little waits for one batch of others at most.
        self._light: _Users = lane("light", compute.plan, compute.refresh)
        self._refined: _Users = lane("refined", compute.plan, compute.refresh, chores=compute)
        self._sessions: Batcher[UserInput, Planned, Interests] = lane(
            "sessions", compute.plan_sessions, compute.sessions
        )
        self._texts: Batcher[NamedText, Sequence[NamedText], EncodedItem] = lane(
            "items", _as_they_are, compute.encode, max_queued=MAX_ITEM_JOBS
        )

    async def warm_up(self) -> None:
        """Encode the bundle's catalogue and compute one user of each tier, so that no caller waits
        for the first time of anything."""
        loop = asyncio.get_running_loop()
        items = await loop.run_in_executor(self._thread.executor, self._compute.pin_catalogue)
        if not items:
            return
        # A window that has just been cut back takes a way of its own.
        cut_back = self.bundle.config.recent_size // 2
        for n_events, refine in ((1, False), (1, True), (cut_back, True)):
            steps = [SessionStep(items[n % len(items)], 1, 0) for n in range(n_events)]
            await self.session(steps, refine=refine, deadline=None)

    async def refresh(
        self,
        states: Sequence[UserState],
        texts: Sequence[NamedText],
        gone: frozenset[ItemKey],
        deadline: float | None,
    ) -> Sequence[UserResult]:
        """Compute users; a state that cannot be computed is refused alone.

        Raises:
            Overloaded: the queue has no room for all of them.
            TooLate: the deadline came first.
        """
        sent = await self.encode(texts, deadline)
        sent_items = {named.key: item.known for named, item in zip(texts, sent, strict=True)}
        jobs = [UserJob(state, sent_items, gone) for state in states]
        return await self._in_lanes(jobs, deadline)

    async def _in_lanes(
        self, jobs: Sequence[UserJob], deadline: float | None
    ) -> Sequence[UserResult]:
        """Compute each user in the lane of his tier; the queues take all of them, or none."""
        size = self.bundle.config.segment_size
        n_tokens = [job.n_tokens(size) for job in jobs]
        are_light = [job.is_light for job in jobs]
        for lane, is_light in ((self._light, True), (self._refined, False)):
            if are_light.count(is_light) == len(jobs):  # as in nearly every request
                return await lane.submit(jobs, n_tokens, deadline)
        self._light.reserve(sum(are_light))
        self._refined.reserve(len(jobs) - sum(are_light))
        waiting = [
            (self._light if is_light else self._refined).submit([job], [n], deadline)
            for job, n, is_light in zip(jobs, n_tokens, are_light, strict=True)
        ]
        return [result for (result,) in await asyncio.gather(*waiting)]

    async def encode(
        self, texts: Sequence[NamedText], deadline: float | None
    ) -> Sequence[EncodedItem]:
        """Encode items and remember them. Raises as `refresh`."""
        if not texts:
            return ()
        limit = self.bundle.config.max_item_tokens
        return await self._texts.submit(texts, [limit] * len(texts), deadline)

    async def learn(self, texts: Sequence[NamedText]) -> None:
        """Make these the newest revisions of their items; encode those that are not known. Raises
        Overloaded."""
        loop = asyncio.get_running_loop()
        await self.encode(
            await loop.run_in_executor(self._thread.executor, self._compute.renew, texts), None
        )

    async def session(
        self, steps: Sequence[SessionStep], *, refine: bool, deadline: float | None
    ) -> Interests:
        """Compute the interests of a list of events. Raises as `refresh`."""
        codebook = int(self.versions.codebook, 16)
        user = session_input(steps, self.bundle.config, codebook=codebook, refine=refine)
        (found,) = await self._sessions.submit([user], [user.n_tokens], deadline)
        return found

    async def newest_items(
        self, names: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], KnownItem]:
        """Look (tenant, item_id) up at the newest revision known; unknown ones are left out."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread.executor, self._compute.newest_items, names)

    async def close(self) -> None:
        """Stop; whoever waits is told."""
        for lane in (self._light, self._refined, self._sessions, self._texts):
            await lane.close()
        self._thread.close()


def _as_they_are(items: Sequence[Any]) -> Sequence[Any]:
    return items
