"""Training, evaluation and serving compute the same of the same history."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.bundle import load_bundle, save_bundle
from encoder.caches import BlockCache, ItemCache
from encoder.compute import Compute, UserJob
from encoder.engine import Engine
from encoder.evaluate import Served
from encoder.histories import History
from encoder.objective import Encoded, Objective
from encoder.recipe import Recipe
from encoder.samples import Sampling, make_batch
from encoder.start import tokens_of
from encoder.user_slots import UserSlots
from protos.keys import text_digest
from protos.rec.v1 import encoder_pb2 as pb
from protos.rec.v1.interests_pb2 import TIER_LIGHT, TIER_REFINED
from protos.segments import Segment, block_digests
from tests.encoder.test_light import CLOSE_OVER_BLOCKS
from tests.encoder.tiny import CONFIG, N_ITEMS, deeper, make_bundle

LENGTHS = (2, 8, 21, 67)
EVERY = Sampling(n_windows=2, n_samples=4)
"""Every count of a segment: two windows of R / 2."""


@pytest.fixture(
    scope="module",
    params=[(block, n) for block in ("transformer", "hstu") for n in (1, 2)],
    ids=lambda param: f"{param[0]}-{param[1]}-tokens",
)
def bundle(request, tmp_path_factory):
    block, kept_tokens = request.param
    made = make_bundle(replace(deeper(), light_block=block, kept_tokens=kept_tokens))
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(made, folder)
    return load_bundle(folder)


def history(n_events):
    rng = np.random.default_rng(n_events)
    return History(
        f"u{n_events}",
        rng.integers(0, N_ITEMS, n_events),
        rng.integers(1, 6, n_events).astype(np.uint8),
        rng.integers(0, 2**16, n_events).astype(np.uint16),
        np.arange(n_events) * 1000,
    )


class Trained:
    """What a training step makes of whole histories, without dropout."""

    def __init__(self, bundle, histories):
        model, config = bundle.model, bundle.config
        rng = np.random.default_rng(0)
        self.batch = make_batch(histories, bundle.catalogue.codes, config, EVERY, rng)
        with torch.inference_mode():
            light = model.light(self.batch.rows)
            tokens = tokens_of(bundle)
            states = model.tower.encode(tokens.tokens, tokens.lengths, torch.arange(N_ITEMS))
            shared = Encoded(torch.zeros(N_ITEMS), states, states.kept, states.embeddings)
            self.coarse = light.coarse.unflatten(1, (2, 4)).flatten(0, 1)
            self.refined = (
                Objective(model, Recipe())
                ._refine(self.batch, shared, self.coarse, self.batch.window_counts)
                .interests
            )
        self.memory = light.memory.numpy()

    def samples(self):
        """Yield each sample's window and place, the row of its segment, and its count in that."""
        counts = self.batch.rows.counts.view(self.batch.is_sample.shape)
        for window, sample in self.batch.is_sample.nonzero().tolist():
            yield window, sample, window // 2, int(counts[window, sample])


def test_a_training_batch_has_at_each_sample_what_is_served_after_its_events(bundle):
    histories = [history(n) for n in LENGTHS]
    trained, served = Trained(bundle, histories), Served(bundle)
    placed = [(h, s) for h in histories for s in range(-(-len(h) // CONFIG.segment_size))]
    engine, users, refined, coarse = Engine(bundle), [], [], []
    for window, sample, row, count in trained.samples():
        whole, segment = placed[row]
        user = served.user_input(whole.first(segment * CONFIG.segment_size + count), refine=True)
        assert len(user.blocks) == segment
        # The pass's own blocks: rounded to f16 in another company, a key may come out otherwise.
        users.append(replace(user, blocks=list(trained.memory[row - segment : row])))
        refined.append(trained.refined[window, sample].numpy())
        coarse.append(trained.coarse[window, sample].numpy())

    for refine, expected in ((True, refined), (False, coarse)):
        found = engine.refresh([replace(user, refine=refine) for user in users])
        vectors = [one.vectors for one in found]
        np.testing.assert_allclose(vectors, np.stack(expected), rtol=0, atol=1e-5)
    assert len(users) == sum(n - 1 for n in LENGTHS)


def test_blocks_of_a_training_pass_are_those_that_are_served(bundle):
    whole = history(67)
    trained = Trained(bundle, [whole])

    found = Engine(bundle).refresh([Served(bundle).user_input(whole, refine=False)])[0]

    for ours, theirs in zip(found.memories, trained.memory[:8], strict=True):
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=5e-3, atol=1e-3)


def state_of(bundle, whole, tier):
    """A history as the stream sends it, blocks as segments."""
    config, catalogue = bundle.config, bundle.catalogue
    segments = [Segment(config.n_levels) for _ in range(len(whole) // config.segment_size + 1)]
    state = pb.UserState(
        tenant="default",
        user_id=whole.user_id,
        model_version=bundle.model_version,
        codebook_version=bundle.codebook_version,
        n_closed_segments=len(segments) - 1,
        n_events=len(whole),
        tier=tier,
    )
    for place, row in enumerate(whole.item_rows):
        segment = segments[place // config.segment_size]
        segment.use_codebook(int(bundle.codebook_version, 16))
        codes = catalogue.codes[row].tobytes()
        segment.extend([row], [whole.actions[place]], [whole.gaps[place]], [codes])
    for row in whole.last(config.recent_size).item_rows:
        state.recent_item_ids.append(catalogue.item_ids[row])
        state.recent_text_digests.append(text_digest(catalogue.texts[row]))
    *closed, newest = [segment.to_bytes() for segment in segments]
    names = block_digests(bundle.model_version, closed, config.block_depth)
    for name, blob in zip(names, closed, strict=True):
        state.block_digests += name
        state.blocks.add(digest=name, segment=blob)
    state.open_segment = newest
    return state


@pytest.mark.parametrize("tier", [TIER_LIGHT, TIER_REFINED])
def test_what_is_evaluated_is_what_a_worker_answers(bundle, tier):
    histories = [history(n) for n in (1, *LENGTHS)]
    slots = UserSlots(bundle.model, torch.device("cpu"), n_bytes=2**20)
    engine = Engine(bundle, users=slots)
    compute = Compute(bundle, engine, ItemCache(100), BlockCache(2**20), model_sequence=1)
    compute.pin_catalogue()
    jobs = [UserJob(state_of(bundle, one, tier), {}, frozenset()) for one in histories]

    expected = Served(bundle).interests(histories, refine=tier == TIER_REFINED)

    for _ in range(2):  # from segments, then from blocks and slots
        for result, vectors in zip(compute.refresh(compute.plan(jobs)), expected, strict=True):
            assert result.status == pb.RESULT_STATUS_OK, result.reason
            found = np.frombuffer(result.interests.vectors, "<f4").reshape(vectors.shape)
            np.testing.assert_allclose(found, vectors, **CLOSE_OVER_BLOCKS)
