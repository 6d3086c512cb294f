"""What users' slots hold changes what is computed, not what comes out."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, MistralConfig, Qwen3Config

from encoder.engine import Engine
from encoder.plan import UserInput
from encoder.segment_rows import alike
from encoder.user_slots import Kept, UserSlots
from tests.encoder.test_light import CLOSE_OVER_BLOCKS, random_segments, replace_length
from tests.encoder.tiny import CONFIG, N_ITEMS, deeper, make_bundle

SIZE = CONFIG.segment_size
UNHEARD_OF = 200


@pytest.fixture(
    scope="module",
    params=[("transformer", 1), ("transformer", 2), ("hstu", 0)],
    ids=lambda param: f"{param[0]}-{param[1] or 'all'}-tokens",
)
def engine(request):
    block, kept_tokens = request.param
    return make_engine(replace(deeper(), light_block=block, kept_tokens=kept_tokens))


def make_engine(config=CONFIG, n_bytes=2**20, idle_s=3600.0, **others):
    bundle = make_bundle(config, **others)
    slots = UserSlots(bundle.model, torch.device("cpu"), n_bytes=n_bytes, idle_s=idle_s)
    return Engine(bundle, users=slots)


class User:
    """Someone whose events come one by one: what a worker would be sent, and what it remembers."""

    def __init__(self, engine, seed, name=""):
        self.engine, self.name = engine, ("", f"{name}{seed}")
        self.segments = random_segments(20 * SIZE, seed)
        rng = np.random.default_rng(seed)
        catalogue = engine.bundle.catalogue
        self.items = engine.encode_items(catalogue.texts, range(N_ITEMS)).states
        self.rows = rng.integers(0, N_ITEMS, 20 * SIZE)
        self.memories = []

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
            [f"{self.name[1]}-{place}".encode() for place in range(n_closed)],
            self.name,
            CONFIG.window_start(n_events + 1) - CONFIG.window_start(n_events),
        )

    def remember(self, output):
        self.memories += output.memories

    def kept(self):
        return self.engine._users._kept.get(self.name, (Kept(), 0))[0]


def names_in(slots):
    return list(slots._kept)


def lose(slots, names):
    slots.drop(slots.take(names))


def from_scratch(user):
    return replace(user, name=None)


def assert_same(found, expected):
    np.testing.assert_allclose(found.vectors, expected.vectors, **CLOSE_OVER_BLOCKS)
    np.testing.assert_allclose(found.weights, expected.weights, **CLOSE_OVER_BLOCKS)
    assert len(found.memories) == len(expected.memories)
    for ours, theirs in zip(found.memories, expected.memories, strict=True):
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=5e-3, atol=1e-3)


def assert_goes_on(engine, plain, n_events):
    """Event by event, an engine gives what a plain one computes from scratch."""
    user = User(plain, seed=1)
    for n in range(1, n_events):
        state = user.state(n)
        output = engine.refresh([state])[0]
        assert_same(output, plain.refresh([from_scratch(state)])[0])
        user.remember(output)


def test_going_on_event_by_event_equals_computing_all(engine):
    assert_goes_on(engine, engine, 6 * SIZE)


N_ARRIVING = st.one_of(st.just(0), st.just(1), st.integers(2, 4), st.integers(2, 3 * SIZE))
"""Events: none, one, a few that came during a refresh, or up to three segments at once."""


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(N_ARRIVING, st.booleans()), min_size=1, max_size=8), st.integers(0, 2**16)
)
def test_events_that_come_in_any_pieces_give_what_one_pass_over_all_gives(engine, pieces, seed):
    user = User(engine, seed)
    lose(engine._users, [user.name])
    n_events = 1
    for n_new, is_prepared in pieces:
        n_events = min(n_events + n_new, 20 * SIZE - 1)

        output = engine.refresh([user.state(n_events)])[0]

        user.remember(output)
        if is_prepared:
            engine.prepare()
        whole = replace(user.state(n_events), blocks=user.segments[: n_events // SIZE])
        expected = engine.refresh([from_scratch(whole)])[0]
        np.testing.assert_allclose(output.vectors, expected.vectors, **CLOSE_OVER_BLOCKS)
        np.testing.assert_allclose(output.weights, expected.weights, **CLOSE_OVER_BLOCKS)


def test_going_on_computes_one_event_and_one_item(engine):
    user = User(engine, seed=2)
    for n_events in range(1, SIZE * 2):
        state = user.state(n_events)
        segment, n_closed = state.open_segment, len(state.blocks)
        if len(segment.actions) > 1:
            digests = state.digests_before(n_closed, CONFIG.n_blocks)
            assert user.kept().n_events(digests, segment) == len(segment.actions) - 1
        if len(state.window) > CONFIG.recent_size // 2:
            assert user.kept().n_items(state.window) == len(state.window) - 1
        user.remember(engine.refresh([state])[0])


def test_users_of_all_kinds_in_one_batch_are_as_they_are_alone(engine):
    rng = np.random.default_rng(3)
    users = [User(engine, seed) for seed in range(8)]
    counts = np.array([1, 3, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE - 1, 40, 61])
    for _ in range(25):
        states = [
            user.state(int(n), refine=bool(rng.integers(2)))
            for user, n in zip(users, counts, strict=True)
        ]
        lose(engine._users, [user.name for user in users if rng.random() < 0.3])

        outputs = engine.refresh(states)

        for user, state, output in zip(users, states, outputs, strict=True):
            assert_same(output, engine.refresh([from_scratch(state)])[0])
            user.remember(output)
        counts += rng.integers(0, 4, len(counts))


@pytest.mark.parametrize("what", ["codes", "coded", "actions", "gaps"])
def test_an_event_that_has_changed_since_is_computed_again(engine, what):
    user = User(engine, seed=4)
    engine.refresh([user.state(6)])
    state = user.state(7)
    column = getattr(state.open_segment, what).copy()
    column[2] = ~column[2] if what == "coded" else (column[2] + 1) % CONFIG.n_centres
    changed = replace(state, open_segment=replace(state.open_segment, **{what: column}))
    assert user.kept().n_events([], changed.open_segment) == 2

    found = engine.refresh([changed])[0]

    assert_same(found, engine.refresh([from_scratch(changed)])[0])


def test_what_was_kept_after_other_blocks_is_not_used(engine):
    user, other = User(engine, seed=5), User(engine, seed=6)
    other.segments[1] = user.segments[1]
    engine.refresh([user.state(SIZE + 3)])
    state = replace(other.state(SIZE + 4), name=user.name)

    assert user.kept().n_events(state.digests, state.open_segment) == 0
    assert_same(engine.refresh([state])[0], engine.refresh([from_scratch(state)])[0])


def test_an_older_state_that_comes_again_is_answered_as_it_was(engine):
    user = User(engine, seed=7)
    counts = [5, 6, 7, 4, 7, 3, 6]
    for n_events in counts:
        state = user.state(n_events)
        assert_same(engine.refresh([state])[0], engine.refresh([from_scratch(state)])[0])


def test_one_user_twice_in_a_batch_gets_two_right_answers(engine):
    user = User(engine, seed=8)
    engine.refresh([user.state(4)])
    states = [user.state(5), user.state(6), user.state(3)]

    outputs = engine.refresh(states)

    for state, output in zip(states, outputs, strict=True):
        assert_same(output, engine.refresh([from_scratch(state)])[0])
    follows = user.state(7)
    assert_same(engine.refresh([follows])[0], engine.refresh([from_scratch(follows)])[0])


def test_windows_are_cut_back_ahead_and_give_the_same(engine):
    users = [User(engine, seed) for seed in range(3)]
    n_cut = 0
    for n_events in range(1, 5 * CONFIG.recent_size):
        states = [user.state(n_events) for user in users]
        if CONFIG.window_start(n_events) != CONFIG.window_start(n_events - 1):
            n_cut += 1
            for user, state in zip(users, states, strict=True):
                assert user.kept().n_items(state.window) == len(state.window) - 1

        outputs = engine.refresh(states)

        for user, state, output in zip(users, states, outputs, strict=True):
            assert_same(output, engine.refresh([from_scratch(state)])[0])
            user.remember(output)
        while engine.is_due:
            engine.prepare(most=2)
    assert n_cut > 5


def test_a_window_cut_back_ahead_is_no_harm_to_the_state_before(engine):
    user = User(engine, seed=9)
    n_events = 2 * CONFIG.recent_size - 1
    state = user.state(n_events)
    engine.refresh([state])
    assert engine.is_due
    engine.prepare()

    assert_same(engine.refresh([state])[0], engine.refresh([from_scratch(state)])[0])


def test_who_lost_his_slot_is_not_prepared():
    engine = make_engine()
    user = User(engine, seed=1)
    engine.refresh([user.state(2 * CONFIG.recent_size - 1)])

    lose(engine._users, [user.name])

    assert not engine.is_due


def slots_for(n_users):
    return n_users * make_engine()._users.slot_bytes


def test_with_fewer_slots_than_users_the_least_recent_goes_first():
    engine = make_engine(n_bytes=slots_for(3))
    users = [User(engine, seed) for seed in range(4)]
    for user in users:
        engine.refresh([user.state(5)])

    assert names_in(engine._users) == [user.name for user in users[1:]]


def test_a_batch_of_more_users_than_slots_is_answered():
    engine = make_engine(n_bytes=slots_for(2))
    users = [User(engine, seed) for seed in range(5)]
    for n_events in range(1, SIZE):
        states = [user.state(n_events) for user in users]
        outputs = engine.refresh(states)
        for state, output in zip(states, outputs, strict=True):
            assert_same(output, engine.refresh([from_scratch(state)])[0])
    assert len(names_in(engine._users)) == 2


def test_nobody_stays_for_long_without_an_event():
    engine = make_engine(idle_s=0.0)
    user = User(engine, seed=1)

    engine.refresh([user.state(5)])

    assert engine._users.take([]) == []
    assert names_in(engine._users) == []


def test_slots_of_those_who_fall_idle_during_a_batch_are_free_again(monkeypatch):
    engine = make_engine(n_bytes=slots_for(3), idle_s=0.05)
    users = [User(engine, seed) for seed in range(3)]
    engine.refresh([users[0].state(5)])
    compute = engine._outputs

    def slowly(*inputs):
        time.sleep(0.1)
        return compute(*inputs)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_outputs", slowly)
        engine.refresh([users[1].state(5)])

    slots = [kept.slot for kept in engine._users.take([user.name for user in users])]
    assert sorted(slots) == [1, 2, 3]


def test_after_a_batch_that_failed_nothing_of_it_is_used(monkeypatch):
    engine = make_engine()
    user = User(engine, seed=1)
    engine.refresh([user.state(5)])

    def fail(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_refine", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.refresh([user.state(6)])

    assert names_in(engine._users) == []
    state = user.state(7)
    assert_same(engine.refresh([state])[0], engine.refresh([from_scratch(state)])[0])


def test_numbers_that_overflow_harm_neither_others_nor_who_comes_after():
    engine = make_engine(n_bytes=slots_for(2))
    with torch.no_grad():
        engine.bundle.model.light.action.weight[UNHEARD_OF] = torch.inf
    poor, other = User(engine, seed=1), User(engine, seed=2)
    engine.refresh([poor.state(5), other.state(5)])
    state = poor.state(6)
    actions = state.open_segment.actions.copy()
    actions[-1] = UNHEARD_OF
    poisoned = replace(state, open_segment=replace(state.open_segment, actions=actions))

    found, good = engine.refresh([poisoned, other.state(6)])

    assert not found.is_finite
    assert names_in(engine._users) == [other.name]
    assert_same(good, engine.refresh([from_scratch(other.state(6))])[0])
    states = [User(engine, seed=3).state(2), other.state(7)]  # one of them in the other's slot
    outputs = engine.refresh(states)
    for state, output in zip(states, outputs, strict=True):
        assert_same(output, engine.refresh([from_scratch(state)])[0])


def test_what_overflowed_in_nobodys_slot_harms_nobody():
    engine = make_engine(n_bytes=slots_for(2))
    with torch.no_grad():
        engine.bundle.model.light.action.weight[UNHEARD_OF] = torch.inf
    known, stranger = User(engine, seed=1), User(engine, seed=2)
    engine.refresh([known.state(5)])
    state = from_scratch(stranger.state(3))
    actions = np.full_like(state.open_segment.actions, UNHEARD_OF)
    poisoned = replace(state, open_segment=replace(state.open_segment, actions=actions))

    assert not engine.refresh([poisoned])[0].is_finite

    found, _ = engine.refresh([state, known.state(6)])  # a past beside it: his slot is read, too
    assert_same(found, engine.refresh([state])[0])


def test_groups_of_alike_sizes_waste_at_most_half_and_lose_nobody():
    sizes = np.random.default_rng(0).integers(0, 128, 200).tolist()

    groups = list(alike(sizes))

    assert sorted(place for group in groups for place in group) == list(range(200))
    for group in groups:
        assert max(sizes[p] for p in group) <= 2 * min(sizes[p] for p in group) + 4
        assert group == sorted(group)


@pytest.mark.parametrize("family", [LlamaConfig, Qwen3Config, MistralConfig])
def test_every_family_of_llms_goes_on(family):
    engine = make_engine(family=family)
    assert_goes_on(engine, engine, 20)
