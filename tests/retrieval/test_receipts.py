import asyncio
import time

import pytest

from infra.kafka_topics import user_partition
from protos.errors import InvalidInput
from protos.rec.v1.events_pb2 import Receipt
from retrieval.deadlines import Deadline
from retrieval.queries import Query
from tests.retrieval.retrieval_world import N_PARTITIONS, state

QUERY = Query("default", "u", 1)
PARTITION = user_partition("default", "u", N_PARTITIONS)


def receipt(offset):
    return Receipt(user_id="u", partition=PARTITION, offset=offset)


async def test_a_record_that_is_included_already_asks_kafka_nothing(world):
    world.add_user(state("u", 5))

    assert await world.receipts.wait(QUERY, receipt(5), Deadline.after(1))
    assert world.log_end.n_asked == 0


async def test_the_wait_ends_when_the_record_is_included(world):
    waiting = asyncio.create_task(world.receipts.wait(QUERY, receipt(5), Deadline.after(30)))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(world.add_user, state("u", 4))
    await asyncio.sleep(0.01)
    assert not waiting.done()

    await asyncio.to_thread(world.add_user, state("u", 6))

    assert await asyncio.wait_for(waiting, 5)


async def test_at_the_deadline_it_says_no_and_leaves_time_for_an_answer(world):
    deadline = Deadline.after(0.4)

    assert not await world.receipts.wait(QUERY, receipt(5), deadline)
    assert deadline.remaining_s() > 0


async def test_a_record_beyond_the_end_of_the_log_is_refused(world):
    world.log_end.end = 5

    with pytest.raises(InvalidInput, match="ends at 5"):
        await world.receipts.wait(QUERY, receipt(5), Deadline.after(5))


async def test_while_kafka_is_away_it_just_waits(world):
    world.log_end.end = None
    start = time.monotonic()

    assert not await world.receipts.wait(QUERY, receipt(5), Deadline.after(0.1))
    assert time.monotonic() - start < 5
