import asyncio

import grpc
import numpy as np
import pytest
import torch

from encoder.bundle import load_bundle
from protos.history import quantise_gap
from protos.keys import text_digest
from protos.rec.v1 import encoder_pb2 as pb
from protos.rec.v1.interests_pb2 import TIER_LIGHT, TIER_REFINED, RecentItem
from protos.segments import Segment, block_digests, split_digests
from tests.encoder.running import CLOSE, Running, vectors
from tests.encoder.tiny import CONFIG, make_user, set_newest


async def test_a_refreshed_user_has_unit_vectors_weights_and_versions(running, bundle):
    (result,) = await running.refresh(make_user(bundle, 5).state)

    assert result.interests.tier == TIER_REFINED
    assert result.interests.model_version == bundle.model_version
    assert result.interests.codebook_version == bundle.codebook_version
    assert result.interests.model_sequence == 7
    np.testing.assert_allclose(np.linalg.norm(vectors(result), axis=1), 1, rtol=1e-5)
    assert sum(result.interests.weights) == pytest.approx(1)


async def test_light_is_not_refined(running, bundle):
    light, refined = await running.refresh(
        make_user(bundle, 5, tier=TIER_LIGHT).state, make_user(bundle, 5).state
    )

    assert light.interests.tier == TIER_LIGHT
    assert np.abs(vectors(light) - vectors(refined)).max() > 1e-3


async def test_blocks_are_asked_for_sent_as_segments_returned_and_then_known(running, bundle):
    user = make_user(bundle, 8 * 5 + 3)
    (first,) = await running.refresh(user.state)
    assert first.status == pb.RESULT_STATUS_NEED_BLOCKS
    assert list(first.need_blocks) == split_digests(user.state.block_digests)

    (computed,) = await running.refresh(user.with_segments())
    (cached,) = await running.refresh(user.state)

    assert len(computed.closed_blocks) == len(user.segments)
    assert all(len(block.memory) == CONFIG.block_bytes for block in computed.closed_blocks)
    np.testing.assert_allclose(vectors(cached), vectors(computed), **CLOSE)


async def test_a_worker_without_caches_agrees_when_given_the_memory(running, bundle):
    user = make_user(bundle, 8 * 5 + 3)
    (computed,) = await running.refresh(user.with_segments())
    memory = {block.digest: block.memory for block in computed.closed_blocks}
    state = pb.UserState()
    state.CopyFrom(user.state)
    for digest in split_digests(state.block_digests):
        state.blocks.add(digest=digest, memory=memory[digest])

    async with Running(bundle) as fresh:
        (found,) = await fresh.refresh(state)

    np.testing.assert_allclose(vectors(found), vectors(computed), **CLOSE)


async def test_known_blocks_sent_as_segments_are_still_returned(running, bundle):
    user = make_user(bundle, 8 * 2 + 1)
    (first,) = await running.refresh(user.with_segments())
    (second,) = await running.refresh(user.with_segments())

    assert [b.SerializeToString() for b in second.closed_blocks] == [
        b.SerializeToString() for b in first.closed_blocks
    ]


async def test_alone_and_together_agree(running, bundle):
    users = [make_user(bundle, n, seed=n).with_segments() for n in (1, 3, 8, 16, 21, 40)]

    together = await running.refresh(*users)

    for user, found in zip(users, together, strict=True):
        (alone,) = await running.refresh(user)
        np.testing.assert_allclose(vectors(found), vectors(alone), **CLOSE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
async def test_a_gpu_serves_the_same_event_by_event(bundle, bundle_folder):
    users = [make_user(bundle, 2 + n, seed=3, user_id="u").state for n in range(4)]
    found = []
    for device in ("cpu", "cuda"):
        async with Running(load_bundle(bundle_folder, device), device=device) as running:
            found.append([vectors((await running.refresh(user))[0]) for user in users])

    np.testing.assert_allclose(found[1], found[0], atol=1e-3)


async def test_concurrent_requests_share_batches_and_agree(running, bundle):
    users = [make_user(bundle, n, seed=1).with_segments() for n in range(1, 33)]

    together = await asyncio.gather(*(running.refresh(user) for user in users))

    for user, (found,) in zip(users, together, strict=True):
        (alone,) = await running.refresh(user)
        np.testing.assert_allclose(vectors(found), vectors(alone), **CLOSE)


async def test_an_unknown_text_is_asked_for_and_then_remembered(running, bundle):
    user = make_user(bundle, 3).state
    set_newest(user, "new", text_digest("a new thing"))
    (first,) = await running.refresh(user)
    assert first.status == pb.RESULT_STATUS_NEED_ITEMS
    assert [item.item_id for item in first.need_items] == ["new"]

    text = pb.ItemText(tenant="default", item_id="new", text="a new thing")
    (second,) = await running.refresh(user, items=[text])
    (third,) = await running.refresh(user)

    np.testing.assert_allclose(vectors(second), vectors(third), **CLOSE)


async def test_an_item_that_is_gone_counts_as_one_without_a_text(running, bundle):
    user = make_user(bundle, 3).state
    set_newest(user, "lost", 99)
    gone = RecentItem(item_id="lost", text_digest=99)
    (found,) = await running.refresh(user, item_gone=[gone])
    user.recent_text_digests[-1] = 0
    (unknown,) = await running.refresh(user)

    np.testing.assert_allclose(vectors(found), vectors(unknown), **CLOSE)


async def test_a_state_of_another_model_is_stale(running, bundle):
    user = make_user(bundle, 3).state
    user.model_version = "0" * 16

    (result,) = await running.refresh(user)

    assert result.status == pb.RESULT_STATUS_STALE_MODEL
    assert bundle.model_version in result.reason


async def test_encoded_items_have_the_bundles_vectors_and_codes(running, bundle):
    catalogue = bundle.catalogue
    items = [
        pb.ItemText(item_id=catalogue.item_ids[row], text=catalogue.texts[row]) for row in (3, 0)
    ]

    reply = await running.stub.EncodeItems(pb.EncodeItemsRequest(items=items))

    for row, item in zip((3, 0), reply.items, strict=True):
        vector = np.frombuffer(item.embedding.vector, "<f4")
        np.testing.assert_allclose(vector, catalogue.embeddings[row], **CLOSE)
        assert item.codes.codes == catalogue.codes[row].tobytes()
        assert item.text_digest == text_digest(catalogue.texts[row])


async def test_an_item_of_another_tenant_has_no_learned_vector(running, bundle):
    text = bundle.catalogue.texts[3]
    items = [
        pb.ItemText(tenant="other", item_id="item-3", text=text),
        pb.ItemText(tenant="other", item_id="never seen", text=text),
    ]

    reply = await running.stub.EncodeItems(pb.EncodeItemsRequest(items=items))

    vectors = [np.frombuffer(item.embedding.vector, "<f4") for item in reply.items]
    np.testing.assert_allclose(vectors[0], vectors[1], **CLOSE)
    assert np.abs(vectors[0] - bundle.catalogue.embeddings[3]).max() > 1e-3


async def test_an_item_without_a_text_gets_a_reason_and_the_others_a_vector(running):
    items = [pb.ItemText(item_id="a", text=" "), pb.ItemText(item_id="b", text="red thing")]

    reply = await running.stub.EncodeItems(pb.EncodeItemsRequest(items=items))

    assert "has no text" in reply.items[0].reason
    assert not reply.items[0].HasField("embedding")
    assert len(reply.items[1].embedding.vector) == 4 * CONFIG.dim


async def test_a_session_equals_the_user_who_did_the_same(running, bundle):
    user = make_user(bundle, 0)
    events = []
    n_events, catalogue = 8 * 2 + 5, bundle.catalogue
    segments = [Segment(CONFIG.n_levels) for _ in range(3)]
    for place in range(n_events):
        row, gap_ms = place * 7 % 40, 1000 * place
        time_ms = sum(1000 * i for i in range(place + 1))
        events.append(pb.SessionEvent(item_id=f"item-{row}", action="click", event_time_ms=time_ms))
        segment = segments[place // 8]
        segment.use_codebook(int(bundle.codebook_version, 16))
        segment.extend([row], [2], [quantise_gap(gap_ms)], [catalogue.codes[row].tobytes()])
        user.state.recent_item_ids.append(f"item-{row}")
        user.state.recent_text_digests.append(text_digest(catalogue.texts[row]))
    del user.state.recent_item_ids[:-8], user.state.recent_text_digests[:-8]
    closed = [segment.to_bytes() for segment in segments[:-1]]
    for digest, blob in zip(
        block_digests(bundle.model_version, closed, CONFIG.block_depth), closed, strict=True
    ):
        user.state.block_digests += digest
        user.state.blocks.add(digest=digest, segment=blob)
    user.state.n_closed_segments, user.state.n_events = 2, n_events
    user.state.open_segment = segments[-1].to_bytes()

    (stored,) = await running.refresh(user.state)
    session = await running.stub.EncodeSession(pb.EncodeSessionRequest(events=events))

    found = np.frombuffer(session.interests.vectors, "<f4").reshape(CONFIG.n_interests, CONFIG.dim)
    np.testing.assert_allclose(found, vectors(stored), **CLOSE)


async def test_a_session_names_the_items_that_nobody_knows(running):
    events = [
        pb.SessionEvent(item_id="item-1", action="click"),
        pb.SessionEvent(item_id="nobody's", action="click"),
        pb.SessionEvent(item_id="brought", action="click", text="a dark thing"),
    ]

    reply = await running.stub.EncodeSession(pb.EncodeSessionRequest(events=events))

    assert list(reply.unknown_item_ids) == ["nobody's"]


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([], "events has 0 entries"),
        ([pb.SessionEvent(item_id="item-1", action="teleport")], r"events\[0\].action"),
        ([pb.SessionEvent(item_id="item-1", action="impression")], r"events\[0\].action"),
        ([pb.SessionEvent(action="click")], r"events\[0\].item_id is empty"),
    ],
)
async def test_a_session_that_means_nothing_is_refused(running, events, reason):
    with pytest.raises(grpc.aio.AioRpcError, match=reason) as caught:
        await running.stub.EncodeSession(pb.EncodeSessionRequest(events=events))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_full_queue_refuses_with_a_hint(bundle):
    users = [make_user(bundle, 5, seed=seed).state for seed in range(4)]
    async with Running(bundle, max_queued_users=3) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.refresh(*users)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_model_info_says_what_others_must_agree_with(running, bundle):
    info = await running.stub.GetModelInfo(pb.GetModelInfoRequest())

    assert (info.dim, info.n_interests, info.n_levels) == (16, 3, 3)
    assert (info.segment_size, info.recent_size, info.n_blocks) == (8, 8, 3)
    assert info.block_bytes == CONFIG.block_bytes
    assert info.block_depth == (CONFIG.light_layers - 1) * CONFIG.n_blocks
    assert (info.model_version, info.model_sequence) == (bundle.model_version, 7)
