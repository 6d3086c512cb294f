import asyncio
import collections
import threading
import time
from contextlib import contextmanager

import pytest

from encoder.batching import Batcher
from encoder.lane_thread import LaneThread
from protos.errors import Overloaded, TooLate


class Doubler:
    """Doubles numbers, remembers its batches, waits when told to, and hates 13."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()
        self.go.set()
        self.may_prepare = threading.Event()
        self.may_prepare.set()

    def prepare(self, numbers):
        assert self.may_prepare.wait(5)
        return list(numbers)

    def __call__(self, numbers):
        assert self.go.wait(5)
        self.batches.append(numbers)
        if 13 in numbers:
            raise ValueError("thirteen")
        return [2 * number for number in numbers]


def one(batcher, number, n_tokens=1, deadline=None):
    """A caller with one number, who gets one back."""
    return asyncio.ensure_future(batcher.submit([number], [n_tokens], deadline))


def hold_the_loop(until):
    gives_up_at = time.monotonic() + 5
    while not until() and time.monotonic() < gives_up_at:
        time.sleep(0.01)


@pytest.fixture
def doubler():
    return Doubler()


def lane(doubler, thread, *, max_tokens=10, max_wait_ms=1, chores=None):
    return Batcher(
        "test",
        doubler.prepare,
        doubler,
        thread,
        max_tokens=max_tokens,
        max_wait_ms=max_wait_ms,
        max_queued=20,
        chores=chores,
    )


@contextmanager
def one_thread():
    thread = LaneThread("test")
    yield thread
    thread.close()


@pytest.fixture
async def batcher(doubler):
    with one_thread() as thread:
        batcher = lane(doubler, thread)
        yield batcher
        doubler.go.set()
        await batcher.close()


async def test_lanes_of_one_thread_take_turns(doubler):
    with one_thread() as thread:
        many, few = (lane(doubler, thread, max_tokens=1, max_wait_ms=0) for _ in range(2))
        doubler.go.clear()
        waiting = [one(many, n) for n in range(5)]
        await asyncio.sleep(0.05)  # the first of them is computed now
        waiting.append(one(few, 100))
        await asyncio.sleep(0)
        doubler.go.set()
        await asyncio.gather(*waiting)
        for closing in (many, few):
            await closing.close()

    assert doubler.batches.index([100]) <= 2


async def test_the_next_batch_does_not_wait_for_a_busy_event_loop(batcher, doubler):
    doubler.go.clear()
    waiting = [one(batcher, n, 10) for n in range(3)]
    await asyncio.sleep(0.05)
    doubler.go.set()

    hold_the_loop(until=lambda: len(doubler.batches) == 3)

    assert doubler.batches == [[0], [1], [2]]
    await asyncio.gather(*waiting)


async def test_answers_are_held_while_the_next_batch_is_prepared_not_while_it_is_computed(
    batcher, doubler
):
    doubler.go.clear()
    first = one(batcher, 1, 10)
    await asyncio.sleep(0.05)
    second = one(batcher, 2, 10)
    await asyncio.sleep(0)

    doubler.may_prepare.clear()
    doubler.go.set()
    await asyncio.sleep(0.05)
    assert not first.done()

    doubler.go.clear()
    doubler.may_prepare.set()
    assert await asyncio.wait_for(first, 5) == [2]
    assert not second.done()
    doubler.go.set()
    assert await second == [4]


async def test_answers_that_are_held_when_the_thread_closes_are_let_go(doubler):
    thread = LaneThread("test")
    batcher = lane(doubler, thread)
    doubler.go.clear()
    first, second = one(batcher, 1, 10), one(batcher, 2, 10)
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(asyncio.to_thread(thread.close))
    await asyncio.sleep(0.05)
    doubler.go.set()  # no turn follows that would let go of the first's answer

    assert await asyncio.wait_for(first, 5) == [2]
    await closing
    await batcher.close()
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_who_waits_when_it_closes_is_told(batcher, doubler):
    doubler.go.clear()
    first = one(batcher, 1, 10)
    await asyncio.sleep(0.05)
    second = one(batcher, 2, 10)
    await asyncio.sleep(0)

    await batcher.close()

    with pytest.raises(asyncio.CancelledError):
        await second
    doubler.go.set()
    assert await first == [2]


async def test_closing_while_a_turn_takes_its_batch_leaves_nobody_waiting(batcher, doubler):
    class Closing(collections.deque):
        """Has the batcher closed meanwhile when a turn looks at its second job."""

        def __getitem__(self, place):
            looked.append(place)
            if len(looked) == 2:
                closer.start()
                closer.join(0.05)  # it waits for the turn, or has emptied the queue
            return super().__getitem__(place)

    looked, closer = [], threading.Thread(target=asyncio.run, args=(batcher.close(),))
    batcher._jobs = Closing()
    waiting = [one(batcher, n) for n in range(3)]

    done, pending = await asyncio.wait(waiting, timeout=5)

    closer.join()
    assert len(done) == 3
    assert not pending


async def test_jobs_that_wait_together_share_a_batch(batcher, doubler):
    found = await asyncio.gather(*(one(batcher, n) for n in range(5)))

    assert found == [[0], [2], [4], [6], [8]]
    assert doubler.batches == [[0, 1, 2, 3, 4]]


async def test_a_batch_keeps_to_its_budget(batcher, doubler):
    await asyncio.gather(*(one(batcher, n, 4) for n in range(5)))

    assert doubler.batches == [[0, 1], [2, 3], [4]]


async def test_what_one_caller_wants_is_cut_to_the_budget_and_comes_in_order(batcher, doubler):
    found = await batcher.submit([1, 2, 3, 4, 5], [4, 4, 4, 99, 1], None)

    assert found == [2, 4, 6, 8, 10]
    assert doubler.batches == [[1, 2], [3], [4], [5]]


async def test_a_job_above_the_budget_goes_alone(batcher, doubler):
    await asyncio.gather(one(batcher, 1, 99), one(batcher, 2))

    assert doubler.batches == [[1], [2]]


async def test_a_bad_job_harms_no_other(batcher):
    found = await asyncio.gather(*(one(batcher, n) for n in (1, 13, 2)), return_exceptions=True)

    assert found[0] == [2]
    assert isinstance(found[1], ValueError)
    assert found[2] == [4]


async def test_a_full_queue_is_refused_at_once(batcher, doubler):
    doubler.go.clear()
    waiting = [one(batcher, 0, 10)]
    await asyncio.sleep(0.05)  # it computes now; twenty more may wait
    waiting += [one(batcher, n, 10) for n in range(20, 40)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded) as caught:
        await one(batcher, 99)

    assert caught.value.retry_after_s > 0
    doubler.go.set()
    await asyncio.gather(*waiting)


async def test_what_comes_too_late_is_not_computed(batcher, doubler):
    doubler.go.clear()
    first = one(batcher, 1, 10)
    await asyncio.sleep(0.05)
    late = one(batcher, 2, 1, time.monotonic() + 0.01)
    await asyncio.sleep(0.05)
    doubler.go.set()

    with pytest.raises(TooLate):
        await late
    await first
    assert doubler.batches == [[1]]


async def test_what_nobody_waits_for_is_not_computed(batcher, doubler):
    doubler.go.clear()
    first = one(batcher, 1, 10)
    await asyncio.sleep(0.05)
    gone = one(batcher, 2)
    await asyncio.sleep(0)
    gone.cancel()
    doubler.go.set()

    await first
    assert await one(batcher, 3) == [6]
    assert doubler.batches == [[1], [3]]


class Chores:
    """Some bits of work that can wait; it notes how many batches came before each."""

    def __init__(self, n, doubler, fails=False):
        self.n_left, self._doubler, self._fails = n, doubler, fails
        self.n_before = []
        self.done = threading.Event()

    def is_due(self):
        return self.n_left > 0

    def do(self):
        self.n_left -= 1
        self.n_before.append(len(self._doubler.batches))
        if not self.n_left:
            self.done.set()
        if self._fails:
            raise RuntimeError("broken broom")


async def with_chores(doubler, chores, *numbers):
    with one_thread() as thread:
        batcher = lane(doubler, thread, max_tokens=2, chores=chores)
        for some in numbers:
            await asyncio.gather(*(one(batcher, number) for number in some))
            assert await asyncio.to_thread(chores.done.wait, 5)
        await batcher.close()


async def test_what_can_wait_is_done_once_no_job_waits(doubler):
    chores = Chores(3, doubler)

    await with_chores(doubler, chores, range(6))

    assert doubler.batches == [[0, 1], [2, 3], [4, 5]]
    assert chores.n_before == [3, 3, 3]


async def test_work_that_can_wait_and_fails_stops_no_job(doubler):
    await with_chores(doubler, Chores(3, doubler, fails=True), [1], [2])

    assert doubler.batches == [[1], [2]]
