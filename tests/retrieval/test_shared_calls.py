import asyncio

import pytest

from retrieval.milvus.shared_calls import SharedCalls


class Oracle:
    """Answers a row with its kind and itself, when it may; remembers its calls."""

    def __init__(self):
        self.calls = []
        self.go = asyncio.Event()
        self.failure = None

    async def __call__(self, kind, rows):
        self.calls.append((kind, list(rows)))
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return [f"{kind}{row}" for row in rows]


class Doors:
    """Answers each call when the test opens its door."""

    def __init__(self):
        self.sizes, self.doors = [], []

    async def __call__(self, kind, rows):
        self.sizes.append(len(rows))
        self.doors.append(door := asyncio.Event())
        await door.wait()
        return rows

    async def open(self, place):
        self.doors[place].set()
        await asyncio.sleep(0.01)


@pytest.fixture
async def oracle():
    return Oracle()


@pytest.fixture
async def shared(oracle):
    made = SharedCalls(oracle, max_calls=1, max_rows=6)
    yield made
    await made.close()


@pytest.fixture
async def doors():
    return Doors()


@pytest.fixture
async def halves(doors):
    made = SharedCalls(doors, max_calls=2, max_rows=100)
    yield made
    await made.close()


async def ask(shared, *questions):
    """Ask at once; return the tasks."""
    tasks = [asyncio.create_task(shared.ask(kind, rows)) for kind, rows in questions]
    await asyncio.sleep(0.01)
    return tasks


async def test_a_question_goes_at_once_and_those_that_come_meanwhile_share_the_next(shared, oracle):
    first = await ask(shared, ("a", [1, 2]))
    others = await ask(shared, ("a", [3]), ("a", [4, 5]))
    assert oracle.calls == [("a", [1, 2])]

    oracle.go.set()

    assert await asyncio.gather(*first, *others) == [["a1", "a2"], ["a3"], ["a4", "a5"]]
    assert oracle.calls[1:] == [("a", [3, 4, 5])]


async def test_only_questions_of_one_kind_share_and_the_oldest_goes_first(shared, oracle):
    tasks = await ask(shared, ("a", [1]), ("b", [2]), ("a", [3]), ("b", [4]))
    oracle.go.set()

    assert await asyncio.gather(*tasks) == [["a1"], ["b2"], ["a3"], ["b4"]]
    assert oracle.calls == [("a", [1]), ("b", [2, 4]), ("a", [3])]


async def test_a_call_has_a_bounded_number_of_rows_but_for_one_question(shared, oracle):
    big = list(range(9))
    tasks = await ask(
        shared, ("a", [0]), ("a", [1] * 4), ("a", [2] * 3), ("a", [3] * 2), ("a", big)
    )
    oracle.go.set()
    await asyncio.gather(*tasks)

    assert [len(rows) for _, rows in oracle.calls] == [1, 6, 3, 9]


async def test_calls_under_way_are_bounded(oracle):
    shared = SharedCalls(oracle, max_calls=2, max_rows=6)
    tasks = await ask(shared, ("a", [1]), ("b", [2]), ("c", [3]), ("c", [4]))
    assert oracle.calls == [("a", [1]), ("b", [2])]

    oracle.go.set()

    await asyncio.gather(*tasks)
    assert oracle.calls[2:] == [("c", [3, 4])]
    await shared.close()


async def test_a_call_takes_its_part_of_all_who_ask(doors, halves):
    tasks = await ask(halves, *[("a", [one]) for one in range(16)])
    assert doors.sizes == [1, 1]

    await doors.open(0)
    assert doors.sizes == [1, 1, 8]
    tasks += await ask(halves, ("a", [16]))
    await doors.open(1)

    assert doors.sizes == [1, 1, 8]
    tasks += await ask(halves, ("a", [17]))
    assert doors.sizes == [1, 1, 8, 8]
    await doors.open(2)
    await doors.open(3)
    assert await asyncio.gather(*tasks) == [[one] for one in range(18)]


async def test_who_waits_for_company_goes_when_the_call_under_way_ends(doors, halves):
    tasks = await ask(halves, *[("a", [one]) for one in range(8)])
    await doors.open(0)
    await doors.open(1)
    assert doors.sizes == [1, 1, 4]

    await doors.open(2)

    assert doors.sizes == [1, 1, 4, 2]
    await doors.open(3)
    assert await asyncio.gather(*tasks) == [[one] for one in range(8)]


async def test_who_gives_up_is_left_out_of_the_next_call_and_harms_none_who_share(shared, oracle):
    first, gone, last = await ask(shared, ("a", [1]), ("a", [2]), ("a", [3]))
    first.cancel()
    gone.cancel()
    await asyncio.sleep(0.01)
    oracle.go.set()

    assert await last == ["a3"]
    assert oracle.calls == [("a", [1]), ("a", [3])]


async def test_a_failure_is_everybodys_who_shares_it_and_nobody_elses(shared, oracle):
    oracle.failure = ValueError("no")
    first, *sharing = await ask(shared, ("a", [1]), ("b", [2]), ("b", [3]))
    oracle.go.set()
    with pytest.raises(ValueError, match="no"):
        await first
    for one in sharing:
        with pytest.raises(ValueError, match="no"):
            await one

    oracle.failure = None
    assert await shared.ask("a", [5]) == ["a5"]


async def test_who_waits_when_it_closes_is_cancelled(shared):
    tasks = await ask(shared, ("a", [1]), ("b", [2]))

    await shared.close()

    for one in tasks:
        with pytest.raises(asyncio.CancelledError):
            await one
