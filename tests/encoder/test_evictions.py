"""What a worker remembers may vanish at any moment, and changes no answer."""

import numpy as np
import pytest

from encoder.compute import NamedText
from encoder.settings import EncoderSettings
from encoder.worker import Worker
from protos.keys import text_digest
from protos.rec.v1 import encoder_pb2 as pb
from protos.rec.v1.interests_pb2 import TIER_LIGHT, TIER_REFINED
from tests.encoder.test_light import CLOSE_OVER_BLOCKS
from tests.encoder.test_user_slots import lose as lose_users
from tests.encoder.test_user_slots import names_in
from tests.encoder.tiny import make_user

N_EVENTS, N_USERS = 2_000, 12


class Sender:
    """The stream's part: sends what the worker says it lacks."""

    def __init__(self, bundle, worker):
        self._worker = worker
        catalogue = bundle.catalogue
        self._texts = dict(zip(catalogue.item_ids, catalogue.texts, strict=True))

    async def refresh(self, user):
        state, texts = user.state, []
        for _ in range(3):
            (found,) = await self._worker.refresh([state], texts, frozenset(), None)
            if found.status == pb.RESULT_STATUS_OK:
                return found.interests
            if found.status == pb.RESULT_STATUS_NEED_BLOCKS:
                state = user.with_segments()
            else:
                assert found.status == pb.RESULT_STATUS_NEED_ITEMS
                texts = [self._named(item.item_id) for item in found.need_items]
        raise AssertionError("the worker asks for ever more")

    def _named(self, item_id):
        text = self._texts[item_id]
        return NamedText(("default", item_id, text_digest(text)), text)


def lose(names, drop, rng):
    """Drop a random half of what these are the names of."""
    for name in list(names):
        if rng.random() < 0.5:
            drop(name)


@pytest.mark.slow
async def test_random_evictions_change_no_answer(bundle):
    worker = Worker(bundle, EncoderSettings())
    everything = Worker(bundle, EncoderSettings(max_cached_user_bytes=1, max_cached_block_bytes=1))
    await worker.warm_up()
    await everything.warm_up()
    blocks, items = worker._blocks._blocks, worker._items._pinned
    caches = [(blocks._entries, blocks.drop), (items, items.pop)]
    sender = Sender(bundle, worker)
    rng = np.random.default_rng(0)
    counts = np.zeros(N_USERS, int)
    n_gone_on = 0
    wholes, found = [], []
    for _ in range(N_EVENTS):
        place = int(rng.integers(N_USERS))
        counts[place] += 1
        tier = TIER_REFINED if rng.random() < 0.8 else TIER_LIGHT
        user = make_user(bundle, int(counts[place]), place, user_id=f"u{place}", tier=tier)
        if rng.random() < 0.1:
            lose(*caches[int(rng.integers(len(caches)))], rng)
        if rng.random() < 0.05:
            some = [name for name in names_in(worker._slots) if rng.random() < 0.5]
            lose_users(worker._slots, some)
        n_gone_on += ("default", f"u{place}") in names_in(worker._slots)

        wholes.append(user.with_segments())
        found.append(await sender.refresh(user))
    for begin in range(0, N_EVENTS, 100):
        part = slice(begin, begin + 100)
        expected = await everything.refresh(wholes[part], [], frozenset(), None)
        for ours, theirs in zip(found[part], expected, strict=True):
            interests = theirs.interests
            vectors, expected_vectors = (
                np.frombuffer(one.vectors, "<f4") for one in (ours, interests)
            )
            np.testing.assert_allclose(vectors, expected_vectors, **CLOSE_OVER_BLOCKS)
            np.testing.assert_allclose(ours.weights, interests.weights, **CLOSE_OVER_BLOCKS)
    assert n_gone_on > N_EVENTS / 2
    await worker.close()
    await everything.close()
