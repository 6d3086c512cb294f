"""A state that is wrong in one field is refused by name, alone."""

import asyncio

import grpc
import numpy as np
import pytest

from protos.rec.v1 import encoder_pb2 as pb
from tests.encoder.running import CLOSE, Running, vectors
from tests.encoder.tiny import CONFIG, make_user


def poison_open_segment(state):
    state.open_segment = state.open_segment[:-1]


def poison_tier(state):
    state.tier = 9


def poison_tenant(state):
    state.tenant = "Not a tenant"


def poison_count(state):
    state.n_events += 1


def poison_recent(state):
    del state.recent_item_ids[:], state.recent_text_digests[:]


def poison_recent_texts(state):
    del state.recent_text_digests[0]


def poison_names(state):
    state.block_digests += b"x" * 16


def poison_half_a_name(state):
    state.block_digests += b"x" * 15


def poison_unnamed_block(state):
    state.blocks.add(digest=b"\xab" * 16, memory=bytes(CONFIG.block_bytes))


def poison_empty_block(state):
    state.blocks.add(digest=b"x" * 16)


def poison_codes(state):
    blob = bytearray(state.open_segment)
    blob[-1] = 255  # the last code; the tiny codebook has 16 centres
    state.open_segment = bytes(blob)


def poison_action(state):
    blob = bytearray(state.open_segment)
    n_events = state.n_events % CONFIG.segment_size
    blob[12 + 4 * n_events] = 200  # header, hashes, then the first action
    state.open_segment = bytes(blob)


POISONS = {
    "open_segment": poison_open_segment,
    "tier": poison_tier,
    "tenant": poison_tenant,
    "n_events": poison_count,
    "recent_item_ids": poison_recent,
    "recent_text_digests": poison_recent_texts,
    "block_digests has 1 names": poison_names,
    "block_digests has 15 bytes": poison_half_a_name,
    "blocks: ababab": poison_unnamed_block,
    "blocks[0] has no content": poison_empty_block,
    "open_segment: a code": poison_codes,
    "open_segment: action": poison_action,
}


@pytest.fixture
async def patient(bundle):
    """A worker that waits until all of 32 requests are there."""
    async with Running(bundle, max_queue_delay_ms=100) as running:
        yield running


@pytest.mark.parametrize("as_requests", [False, True], ids=["one request", "32 requests"])
@pytest.mark.parametrize("field", POISONS)
async def test_one_poisoned_user_harms_none_of_31_others(patient, bundle, field, as_requests):
    users = [make_user(bundle, 5, seed=n, user_id=f"u{n}").state for n in range(32)]
    expected = await patient.refresh(*users)
    POISONS[field](users[17])

    if as_requests:
        found = [one for (one,) in await asyncio.gather(*map(patient.refresh, users))]
    else:
        found = await patient.refresh(*users)

    assert found[17].status == pb.RESULT_STATUS_INVALID
    assert field in found[17].reason
    for place in set(range(32)) - {17}:
        np.testing.assert_allclose(vectors(found[place]), vectors(expected[place]), **CLOSE)


@pytest.mark.parametrize(
    ("memory", "reason"),
    [(b"\0" * 10, "has 10 bytes"), (b"\xff" * CONFIG.block_bytes, "not finite")],
)
async def test_a_bad_block_is_named(running, bundle, memory, reason):
    user = make_user(bundle, 8 + 2).state
    user.blocks.add(digest=user.block_digests, memory=memory)

    (result,) = await running.refresh(user)

    assert result.status == pb.RESULT_STATUS_INVALID
    assert "blocks[0].memory" in result.reason
    assert reason in result.reason


@pytest.mark.parametrize("n_users", [0, 257])
async def test_a_request_of_an_absurd_size_is_refused(running, n_users):
    with pytest.raises(grpc.aio.AioRpcError, match="users has") as caught:
        await running.refresh(*[pb.UserState()] * n_users)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
