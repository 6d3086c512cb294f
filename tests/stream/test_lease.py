import pytest

from stream.lease import Lease, Paused


class World:
    def __init__(self):
        self.now = 100.0
        self.failures = []
        self.lease = Lease(10.0, self.failures.append, clock=lambda: self.now)


async def test_a_process_that_beats_may_send():
    world = World()
    world.now += 6.9

    world.lease.check()

    assert world.failures == []


async def test_a_process_that_stood_still_past_its_session_ends_before_it_sends():
    world = World()
    world.now += 7.1

    with pytest.raises(Paused, match="stood still"):
        world.lease.check()
    assert len(world.failures) == 1


async def test_waking_up_does_not_renew_what_was_lost():
    world = World()
    world.now += 8

    with pytest.raises(Paused):
        await world.lease.run()
    assert len(world.failures) == 1
