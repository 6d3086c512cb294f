"""Two real encoders behind a pool, one of which is killed under load."""

import asyncio
from contextlib import ExitStack

import numpy as np
import pytest

from encoder.bundle import load_bundle, save_bundle
from encoder.settings import EncoderSettings
from encoder.worker import Worker
from infra.stack.ports import PortReservations
from protos.history import Shape
from protos.rec.v1.encoder_pb2 import (
    RESULT_STATUS_NEED_BLOCKS,
    RESULT_STATUS_OK,
    RefreshRequest,
)
from stream.encoder_client import EncoderClient
from stream.encoder_pool import EncoderPool
from tests.encoder.test_light import CLOSE_OVER_BLOCKS
from tests.encoder.tiny import CONFIG, make_bundle, make_user
from tests.integration.encoder_process import EncoderProcess

N_USERS, N_ROUNDS, KILLED_AT, BACK_AT = 24, 60, 20, 40
SHAPE = Shape(CONFIG.segment_size, CONFIG.n_levels, CONFIG.recent_size)


@pytest.fixture
def processes(tmp_path):
    bundle = tmp_path / "bundle"
    save_bundle(make_bundle(), bundle)
    with PortReservations(tmp_path) as ports:
        found = [EncoderProcess(bundle, tmp_path, ports, name) for name in ("one", "two")]
    with ExitStack() as stack:
        for process in found:
            stack.callback(process.start().kill)
        for process in found:
            process.wait_ready()
        yield bundle, found


async def refreshed(pool, users):
    """Ask as the stream does: by digest first, then with what is needed."""
    states = [user.state for user in users]
    for _ in range(3):
        response = await pool.refresh(RefreshRequest(users=states))
        lacking = [
            place
            for place, result in enumerate(response.results)
            if result.status == RESULT_STATUS_NEED_BLOCKS
        ]
        if not lacking:
            break
        for place in lacking:
            states[place] = users[place].with_segments()
    assert {result.status for result in response.results} == {RESULT_STATUS_OK}
    return [vectors_of(result) for result in response.results]


def vectors_of(result):
    return np.frombuffer(result.interests.vectors, "<f4").reshape(-1, CONFIG.dim)


async def expected(bundle, users):
    worker = Worker(bundle, EncoderSettings(max_cached_user_bytes=1, max_cached_block_bytes=1))
    await worker.warm_up()
    found = await worker.refresh([u.with_segments() for u in users], [], frozenset(), None)
    await worker.close()
    return [vectors_of(one) for one in found]


async def test_a_killed_encoder_costs_nobody_an_answer(processes):
    folder, (one, two) = processes
    bundle = load_bundle(folder)
    pool = EncoderPool({p.address: EncoderClient(p.address, SHAPE) for p in (one, two)})
    await pool.model()
    for round_ in range(N_ROUNDS):
        users = [
            make_user(bundle, 5 + round_ + place, place, user_id=f"u{place}")
            for place in range(N_USERS)
        ]
        if round_ == KILLED_AT:
            going = asyncio.create_task(refreshed(pool, users))
            await asyncio.sleep(0.001)
            one.kill()
            await going
        if round_ == BACK_AT:
            one.start().wait_ready()
            await pool.model()
        answers = await refreshed(pool, users)
        if round_ in (KILLED_AT - 1, KILLED_AT, BACK_AT, N_ROUNDS - 1):
            for ours, theirs in zip(answers, await expected(bundle, users), strict=True):
                np.testing.assert_allclose(ours, theirs, **CLOSE_OVER_BLOCKS)
    await pool.close()
