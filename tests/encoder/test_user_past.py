"""What was computed before changes what is computed, not what comes out."""

from dataclasses import replace

import numpy as np
import pytest
from transformers import LlamaConfig, MistralConfig, Qwen3Config

from encoder.engine import Engine, UserInput
from encoder.segment_rows import alike
from tests.encoder.test_light import CLOSE_OVER_BLOCKS, random_segments, replace_length
from tests.encoder.tiny import CONFIG, N_ITEMS, deeper, make_bundle

SIZE = CONFIG.segment_size


@pytest.fixture(
    scope="module",
    params=[("transformer", 1), ("transformer", 2), ("hstu", 0)],
    ids=lambda param: f"{param[0]}-{param[1] or 'all'}-tokens",
)
def engine(request):
    block, kept_tokens = request.param
    return Engine(make_bundle(replace(deeper(), light_block=block, kept_tokens=kept_tokens)))


class User:
    """Someone whose events come one by one: what a worker would be sent, and what it remembers."""

    def __init__(self, engine, seed, name=""):
        self.engine, self.name = engine, f"{name}{seed}"
        self.segments = random_segments(20 * SIZE, seed)
        rng = np.random.default_rng(seed)
        catalogue = engine.bundle.catalogue
        self.items = engine.encode_items(catalogue.texts, range(N_ITEMS)).states
        self.rows = rng.integers(0, N_ITEMS, 20 * SIZE)
        self.memories = []
        self.past = None

    def state(self, n_events, refine=True):
        """The state after so many events, with the blocks that are known."""
        n_closed = n_events // SIZE
        closed = self.segments[:n_closed]
        window = self.rows[CONFIG.window_start(n_events) : n_events]
        return UserInput(
            [*self.memories, *closed[len(self.memories) :]],
            replace_length(self.segments[n_closed], n_events % SIZE),
            [self.items[row] for row in window],
            refine,
            [f"{self.name}-{place}".encode() for place in range(n_closed)],
            self.past,
        )

    def remember(self, output):
        self.memories += output.memories
        self.past = output.past


def from_scratch(user):
    return replace(user, past=None)


def assert_same(found, expected):
    np.testing.assert_allclose(found.vectors, expected.vectors, **CLOSE_OVER_BLOCKS)
    np.testing.assert_allclose(found.weights, expected.weights, **CLOSE_OVER_BLOCKS)
    assert len(found.memories) == len(expected.memories)
    for ours, theirs in zip(found.memories, expected.memories, strict=True):
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=5e-3, atol=1e-3)


def test_going_on_event_by_event_equals_computing_all(engine):
    user = User(engine, seed=1)
    for n_events in range(1, 6 * SIZE):
        state = user.state(n_events)

        output = engine.refresh([state], keep_past=True)[0]

        assert_same(output, engine.refresh([from_scratch(state)])[0])
        user.remember(output)


def test_going_on_computes_one_event_and_one_item(engine):
    user = User(engine, seed=2)
    for n_events in range(1, SIZE * 2):
        state = user.state(n_events)
        shared = state.past_of(len(state.blocks), state.open_segment, CONFIG.n_blocks)
        if shared is not None:
            assert shared.shape[3] == len(state.open_segment.actions) - 1
        if state.past is not None and len(state.window) > CONFIG.recent_size // 2:
            assert state.past.window.n_shared(state.window) == len(state.window) - 1
        user.remember(engine.refresh([state], keep_past=True)[0])
    assert shared is not None


def test_users_of_all_kinds_in_one_batch_are_as_they_are_alone(engine):
    rng = np.random.default_rng(3)
    users = [User(engine, seed) for seed in range(8)]
    counts = np.array([1, 3, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE - 1, 40, 61])
    for _ in range(25):
        states = [
            user.state(int(n), refine=bool(rng.integers(2)))
            for user, n in zip(users, counts, strict=True)
        ]
        states = [s if rng.random() < 0.7 else from_scratch(s) for s in states]

        outputs = engine.refresh(states, keep_past=True)

        for user, state, output in zip(users, states, outputs, strict=True):
            assert_same(output, engine.refresh([from_scratch(state)])[0])
            user.remember(output)
        counts += rng.integers(0, 4, len(counts))


@pytest.mark.parametrize("what", ["codes", "coded", "actions", "gaps"])
def test_an_event_that_has_changed_since_is_computed_again(engine, what):
    user = User(engine, seed=4)
    user.past = engine.refresh([user.state(6)], keep_past=True)[0].past
    state = user.state(7)
    column = getattr(state.open_segment, what).copy()
    column[2] = ~column[2] if what == "coded" else (column[2] + 1) % CONFIG.n_centres
    changed = replace(state, open_segment=replace(state.open_segment, **{what: column}))

    found = engine.refresh([changed])[0]

    assert changed.past_of(0, changed.open_segment, CONFIG.n_blocks).shape[3] == 2
    assert_same(found, engine.refresh([from_scratch(changed)])[0])


def test_a_past_after_other_blocks_is_not_used(engine):
    user, other = User(engine, seed=5), User(engine, seed=6)
    other.segments[1] = user.segments[1]
    user.past = engine.refresh([user.state(SIZE + 3)], keep_past=True)[0].past
    state = replace(other.state(SIZE + 4), past=user.past)

    assert state.past_of(1, state.open_segment, CONFIG.n_blocks) is None
    assert_same(engine.refresh([state])[0], engine.refresh([from_scratch(state)])[0])


def test_a_past_does_not_hold_on_to_the_batch_it_came_from(engine):
    users = [User(engine, seed) for seed in range(4)]

    outputs = engine.refresh([user.state(7) for user in users], keep_past=True)

    for output in outputs:
        for states in (output.past.segment.states, output.past.window.states):
            assert states.untyped_storage().nbytes() == states.nbytes
        assert output.past.nbytes == sum(
            one.nbytes for one in (output.past.segment.states, output.past.window.states)
        )


def test_groups_of_alike_sizes_waste_at_most_half_and_lose_nobody():
    sizes = np.random.default_rng(0).integers(0, 128, 200).tolist()

    groups = list(alike(sizes))

    assert sorted(place for group in groups for place in group) == list(range(200))
    for group in groups:
        assert max(sizes[p] for p in group) <= 2 * min(sizes[p] for p in group) + 4
        assert group == sorted(group)


@pytest.mark.parametrize("family", [LlamaConfig, Qwen3Config, MistralConfig])
def test_every_family_of_llms_goes_on(family):
    user = User(engine := Engine(make_bundle(family=family)), seed=7)
    for n_events in range(1, 20):
        state = user.state(n_events)
        output = engine.refresh([state], keep_past=True)[0]
        assert_same(output, engine.refresh([from_scratch(state)])[0])
        user.remember(output)
