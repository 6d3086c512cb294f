"""Refreshes: from a user whose state moved to new interests on rec.interests.

A thin driver around the scheduler (stream/schedule.py) and the cuts (stream/states.py). It never
blocks the fold: the fold calls `touch`, and everything else happens in tasks.

* The first event goes at once. While calls are in flight, users gather, and share the next call.
* While events wait to be folded (`fold_is_behind`), those of users with an open feed go on; the
  others, whose states are about to move again, share a tenth of the time.
* A user without events (erased, or with dead letters only) is published without the encoder, so
  that his receipts come true while it is down.
* Any failure that a retry may cure pauses all calls, with growing pauses; one call then probes. A
  call that fails for its content is repeated a user at a time, and the one at fault is given up
  until his next event.
* What was published is remembered in the state, so that after a restart, or with a new model, those
  who are owed a refresh are found by a scan.
"""

import asyncio
import random
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Protocol

import structlog

from protos.errors import FreshetError, TooLate, VersionMismatch
from protos.rec.v1.encoder_pb2 import ResultStatus, UserResult
from protos.rec.v1.interests_pb2 import Tier
from stream.blocks import BlockStore
from stream.catalogue import Catalogue
from stream.encoder_client import Model
from stream.exchange import Exchange, RefreshEncoder, status_name
from stream.metrics import WorkerMetrics
from stream.open_feeds import OpenFeeds
from stream.owed import OwedScans
from stream.partition import Partition, User
from stream.publishing import InterestsPublisher
from stream.schedule import Key, Priority, RefreshScheduler
from stream.states import Cut, cut_state

log = structlog.get_logger(__name__)

USERS_A_CALL = 32
MODEL_POLL_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
REST_BEHIND = 9
"""How long others' calls rest while the fold is behind, in lengths of the call before."""
_OK, _STALE = ResultStatus.RESULT_STATUS_OK, ResultStatus.RESULT_STATUS_STALE_MODEL


class Encoder(RefreshEncoder, Protocol):
    async def model(self) -> Model: ...


class Refresher:
    def __init__(
        self,
        partitions: Mapping[int, Partition],
        *,
        encoder: Encoder,
        catalogue: Catalogue,
        open_feeds: OpenFeeds,
        blocks: BlockStore,
        publisher: InterestsPublisher,
        metrics: WorkerMetrics,
        requests_in_flight: int,
        light_above: int,
    ) -> None:
        self._partitions, self._encoder, self._catalogue = partitions, encoder, catalogue
        self._open_feeds, self._blocks = open_feeds, blocks
        self._publisher, self._metrics = publisher, metrics
        self._exchange = Exchange(
            encoder,
            catalogue,
            lambda key, index, digest: blocks.get(*key, index, digest),
            metrics,
        )
        self._n_requests, self._light_above = requests_in_flight, light_above
        self.model: Model | None = None
        """None until the encoder has answered."""
        self._scheduler = RefreshScheduler()
        self._plain: dict[Key, None] = {}
        """Users without events whose records are to be published."""
        self._cuts: dict[Key, Cut] = {}
        self._wake = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()
        self._scans = OwedScans(
            lambda key, has_events: self._touch(key, has_events, Priority.SPARE),
            lambda: self._scheduler.n_spare,
        )
        self._n_failures = 0
        self._resume_at = 0.0
        self._is_fold_behind = False
        self._rests_until = 0.0
        self._complaints: set[str] = set()

    # -- what the fold, the topics and the table say ------------------------------------------

    def touch(self, partition: Partition, user: User) -> None:
        self._touch((partition.number, user.key), user.head.n_events > 0)

    def _touch(self, key: Key, has_events: bool, priority: Priority = Priority.NORMAL) -> None:
        if not has_events:
            self._plain[key] = None
        else:
            is_open = self._open_feeds.is_open(key[1])
            self._scheduler.touch(key, Priority.OPEN_FEED if is_open else priority)
        self._wake.set()

    def forget(self, partition: Partition, user: User) -> None:
        if (cut := self._cuts.get((partition.number, user.key))) is not None:
            cut.is_void = True
        self._blocks.delete_user(partition.number, user.key)

    def promote(self, user_key: bytes) -> None:
        """Say that a user opened a feed."""
        for number in self._partitions:
            self._scheduler.promote((number, user_key))

    def fold_is_behind(self, is_behind: bool) -> None:
        """Say whether many events wait to be folded."""
        self._is_fold_behind = is_behind
        self._wake.set()

    def assigned(self, partition: Partition) -> None:
        """Look for users who are owed a refresh since the last owner of the partition."""
        self._scans.start(partition, self.model.model_version if self.model is not None else None)

    async def revoked(self) -> None:
        """Let go of all partitions; what is in flight comes to nothing."""
        await self._scans.stop()
        self._plain.clear()
        for cut in self._cuts.values():
            cut.is_void = True
        self._cuts.clear()
        self._scheduler.drop(lambda key: True)

    # -- the loops -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Start calls for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._plain:
                plain, self._plain = self._plain, {}
                self._start(self._publish_plain(list(plain)), self._others)
            self._start_calls()
            self._metrics.waiting_users.set(self._scheduler.n_waiting + self._scheduler.n_spare)
            self._metrics.refreshes_in_flight.set(self._scheduler.n_in_flight)

    async def watch_model(self) -> None:
        """Learn which model serves, again and again."""
        while True:
            await self.renew_model()
            await asyncio.sleep(MODEL_POLL_S if self.model is not None else 0.2)

    async def renew_model(self) -> None:
        """Ask which model serves; with a new one, everybody is owed a refresh."""
        try:
            model = await self._encoder.model()
        except VersionMismatch as error:
            self._complain(str(error))
            self.model = None
            return
        except FreshetError:
            return  # keep what is known; the calls themselves notice an encoder that is down
        if model != self.model:
            log.info("model_serves", version=model.model_version, codebook=model.codebook_version)
            self.model = model
            for partition in list(self._partitions.values()):
                self.assigned(partition)
        self._wake.set()

    def _start_calls(self) -> None:
        while self.model is not None and len(self._calls) < self._n_slots():
            taken = self._scheduler.take(USERS_A_CALL, self._lowest_priority())
            if not taken:
                return
            self._start(self._call(taken, self.model), self._calls)

    def _lowest_priority(self) -> Priority:
        """Return the lowest priority whose turn it may be."""
        if not self._is_fold_behind:
            return Priority.SPARE
        is_resting = self._calls or time.monotonic() < self._rests_until
        return Priority.OPEN_FEED if is_resting else Priority.SPARE

    def _n_slots(self) -> int:
        if self._n_failures == 0:
            return self._n_requests
        return 1 if time.monotonic() >= self._resume_at else 0

    def _start(self, work: Coroutine[None, None, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            among.discard(task)
            self._wake.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("refresh_task_crashed", exc_info=error)  # a bug of ours
                self._pause()

        task.add_done_callback(ended)

    # -- one call ------------------------------------------------------------------------------

    async def _call(self, taken: Sequence[tuple[Key, Priority]], model: Model) -> None:
        start = time.monotonic()
        priorities = dict(taken)
        cuts = {key: cut for key in priorities if (cut := self._cut(key, priorities[key], model))}
        for key in priorities.keys() - cuts.keys():
            self._scheduler.done(key)
        self._cuts |= cuts
        try:
            if await self._settle(cuts, model):
                self._n_failures = 0
            else:
                await self._follow_model(model)
        except FreshetError as error:
            self._failed(error)
            if not (error.retryable or isinstance(error, TooLate)):
                await self._one_by_one(cuts, model, error)
        finally:
            for key, cut in cuts.items():
                if self._cuts.get(key) is cut:  # not done: again, when calls are resumed
                    del self._cuts[key]
                    self._scheduler.retry(key, priorities[key])
            if self._is_fold_behind:
                self._rest(REST_BEHIND * (time.monotonic() - start))

    def _rest(self, seconds: float) -> None:
        self._rests_until = time.monotonic() + seconds
        asyncio.get_running_loop().call_later(seconds, self._wake.set)

    def _cut(self, key: Key, priority: Priority, model: Model) -> Cut | None:
        number, user_key = key
        partition = self._partitions.get(number)
        if partition is None:
            return None
        user = partition.user(user_key)
        if user.head.n_events == 0:
            self._plain[key] = None
            return None
        is_crowded = self._scheduler.n_waiting > self._light_above
        light = is_crowded and priority is not Priority.OPEN_FEED
        tier = Tier.TIER_LIGHT if light else Tier.TIER_REFINED
        return cut_state(partition, user, model, self._catalogue, tier)

    async def _follow_model(self, stale: Model) -> None:
        """Another model serves: the users are cut anew for it."""
        await self.renew_model()
        if self.model == stale:  # it says one thing and does another: do not ask in circles
            self._pause()

    async def _settle(self, cuts: Mapping[Key, Cut], model: Model) -> bool:
        """Ask until each user is done with; False when the model is no longer served."""
        is_current = True
        async for answers in self._exchange.answers(cuts, model, self._is_valid):
            ready = [answer for answer in answers if answer[2].status == _OK]
            await asyncio.gather(*(self._publish_one(*one) for one in ready))
            for key, cut, result in answers:
                if result.status != _OK:
                    self._metrics.refreshes.labels(status_name(result)).inc()
                if result.status == _STALE:
                    is_current = False
                elif result.status != _OK and self._is_valid(key, cut):
                    self._complain(f"{status_name(result)}: {result.reason}")
                    self._give_up(key, cut)
        return is_current

    async def _one_by_one(self, cuts: Mapping[Key, Cut], model: Model, error: FreshetError) -> None:
        """Find whose state a call failed for."""
        if len(cuts) == 1:
            ((key, cut),) = cuts.items()
            self._complain(str(error))
            self._give_up(key, cut)
            return
        for key, cut in cuts.items():
            if not self._is_valid(key, cut):
                continue
            try:
                await self._settle({key: cut}, model)
            except FreshetError as alone:
                if alone.retryable or isinstance(alone, TooLate):
                    return
                self._complain(str(alone))
                self._give_up(key, cut)

    def _is_valid(self, key: Key, cut: Cut) -> bool:
        """Whether the answer for a cut is still wanted."""
        if self._cuts.get(key) is not cut:
            return False
        if not cut.is_wanted:
            self._give_up(key, cut)
            return False
        return True

    def _give_up(self, key: Key, cut: Cut) -> None:
        if self._cuts.get(key) is cut:
            del self._cuts[key]
            self._scheduler.done(key)

    # -- publishing ----------------------------------------------------------------------------

    async def _publish_one(self, key: Key, cut: Cut, result: UserResult) -> None:
        if not self._is_valid(key, cut):
            return
        if not await self._publisher.publish(cut, result):
            self._pause()
            return
        if self._is_valid(key, cut):
            self._metrics.refreshes.labels("ok").inc()
            self._give_up(key, cut)
            if cut.state.tier == Tier.TIER_LIGHT:
                self._touch(key, True, Priority.SPARE)

    async def _publish_plain(self, keys: Sequence[Key]) -> None:
        await asyncio.gather(*(self._publish_plain_one(key) for key in keys))

    async def _publish_plain_one(self, key: Key) -> None:
        partition = self._partitions.get(key[0])
        if partition is None:
            return
        user = partition.user(key[1])
        if user.head.n_events:
            return  # the scheduler has him
        if not await self._publisher.publish_plain(partition, user):
            self._plain[key] = None
            self._pause()

    # -- failures ------------------------------------------------------------------------------

    def _failed(self, error: FreshetError) -> None:
        self._metrics.refresh_failures.labels(error.reason()).inc()
        if self._n_failures == 0:
            log.warning("refresh_failed", reason=error.reason(), message=str(error))
        self._pause()

    def _pause(self) -> None:
        """Let calls rest, longer each time, with jitter."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._n_failures)
        self._n_failures += 1
        pause_s *= random.uniform(0.5, 1.0)
        self._resume_at = time.monotonic() + pause_s
        asyncio.get_running_loop().call_later(pause_s, self._wake.set)

    def _complain(self, message: str) -> None:
        """Log a refusal, once each."""
        if message not in self._complaints and len(self._complaints) < 100:
            self._complaints.add(message)
            log.error("refresh_refused", message=message)
