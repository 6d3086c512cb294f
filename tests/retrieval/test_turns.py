"""Whose feed is made next."""

import asyncio

from retrieval.turns import Rank, Turns
from tests.clock import Clock


async def test_only_so_many_have_a_turn_at_once():
    turns, n_now, most = Turns(2), 0, 0

    async def one() -> None:
        nonlocal n_now, most
        with turns.asked(Rank.NEWS) as turn:
            await turn
            n_now += 1
            most = max(most, n_now)
            await asyncio.sleep(0)
            n_now -= 1

    await asyncio.gather(*(one() for _ in range(20)))

    assert (n_now, most) == (0, 2)


async def order_of(*asked: tuple[str, Rank, float]) -> list[str]:
    """Ask for turns, (name, rank, at which second), while there is none; return the order in which
    they come."""
    served: list[str] = []
    clock = Clock()
    turns = Turns(1, clock=clock)

    async def one(name: str, rank: Rank) -> None:
        with turns.asked(rank) as turn:
            await turn
            served.append(name)

    waiting = []
    with turns.asked(Rank.NEWS):
        for name, rank, second in asked:
            clock.now_s = second
            waiting.append(asyncio.create_task(one(name, rank)))
            await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    return served


async def test_news_go_before_who_opens_before_who_tries_again_and_else_first_come_first_served():
    asked = [("again", Rank.AGAIN, 0), ("opened", Rank.OPENED, 1), ("n1", Rank.NEWS, 2)]

    assert await order_of(*asked, ("n2", Rank.NEWS, 3)) == ["n1", "n2", "opened", "again"]


async def test_nobody_waits_for_ever_however_much_is_new():
    asked = [("opened", Rank.OPENED, 0), ("soon", Rank.NEWS, 14), ("later", Rank.NEWS, 16)]

    assert await order_of(*asked) == ["soon", "opened", "later"]


async def test_who_leaves_the_queue_or_dies_with_a_turn_takes_none_from_the_others():
    turns = Turns(1)

    async def one() -> None:
        with turns.asked(Rank.NEWS) as turn:
            await turn
            await asyncio.sleep(60)

    tasks = [asyncio.create_task(one()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks:  # the first has the turn, the others wait
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    with turns.asked(Rank.NEWS) as turn:
        await asyncio.wait_for(turn, 5)


async def test_when_turns_close_everybody_goes_on():
    turns = Turns(1)
    with (
        turns.asked(Rank.NEWS),
        turns.asked(Rank.NEWS) as second,
        turns.asked(Rank.AGAIN) as third,
    ):
        assert not second.done()

        turns.close()

        assert second.done()
        assert third.done()
