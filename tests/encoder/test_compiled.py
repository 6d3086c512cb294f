"""Compiled passes give what plain ones give, and are compiled once."""

import shutil
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from encoder.engine import Engine
from encoder.user_slots import UserSlots
from protos.errors import NotReady
from tests.encoder.test_user_slots import User, assert_goes_on, assert_same, from_scratch
from tests.encoder.tiny import CONFIG, deeper, make_bundle

SIZE, HALF = CONFIG.segment_size, CONFIG.recent_size // 2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("g++") is None, reason="compiling takes a C++ compiler"),
]


@pytest.fixture(
    scope="module",
    params=[("transformer", 1), ("hstu", 2)],
    ids=lambda p: p[0],
)
def engines(request, tmp_path_factory):
    block, kept_tokens = request.param
    bundle = make_bundle(replace(deeper(), light_block=block, kept_tokens=kept_tokens))
    folder = tmp_path_factory.mktemp("compiled")
    slots = UserSlots(bundle.model, torch.device("cpu"), n_bytes=2**20)
    return Engine(bundle), Engine(bundle, users=slots, compiled_folder=folder)


def folder_of(engine):
    return engine._llm._compiled[0].compute._compiling.folder


def test_going_on_event_by_event_equals_plain_passes(engines):
    plain, compiled = engines
    assert_goes_on(compiled, plain, 5 * SIZE)


def test_a_worker_that_keeps_nothing_of_users_equals_plain_passes(engines):
    plain, compiled = engines
    state = User(plain, seed=1).state(2)
    compiled.refresh([state])
    folder = folder_of(compiled)

    assert_goes_on(Engine(plain.bundle, compiled_folder=folder), plain, 2 * SIZE)


def test_one_event_more_and_windows_that_are_cut_back_have_ways_of_their_own(engines):
    _, compiled = engines
    for routes in (compiled._light, compiled._llm):
        ways = [next(routes.groups([n]))[1] for n in (1, 2, HALF, HALF + 1)]

        assert ways[0] is not ways[1] is ways[2] is not ways[3]


def test_other_threads_run_while_a_compiled_pass_does(engines):
    plain, compiled = engines
    compiled.refresh([User(plain, seed=1).state(2)])
    run, inputs = of_light_pass(compiled, plain)
    go, ticks = threading.Event(), []

    def tick():
        go.wait()
        ticks.append(1)

    other = threading.Thread(target=tick)
    interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1000)  # nobody is made to give Python's lock away
        other.start()
        time.sleep(0.1)  # it waits now
        go.set()
        kept = []  # a tensor that is freed gives the lock away, too
        while not ticks and len(kept) < 100:
            kept.append(run(list(inputs)))
    finally:
        sys.setswitchinterval(interval)
    other.join()

    assert ticks


def of_light_pass(compiled, plain):
    """What runs, and what it was given last."""
    route = compiled._light._compiled[0].compute
    run, given = route._run, []

    def note(inputs):
        given.append(list(inputs))
        return run(inputs)

    route._run = note
    compiled.refresh([User(plain, seed=1).state(2)])
    route._run = run
    return run, given[0]


def test_batches_of_users_with_few_and_many_new_events_equal_plain_passes(engines):
    plain, compiled = engines
    users = [User(plain, seed) for seed in range(5)]
    counts = [1, SIZE - 1, SIZE, 2 * SIZE + 3, 3 * SIZE - 2]
    for step in range(2 * HALF):
        states = []
        for place, user in enumerate(users):
            counts[place] += 1 + (step * place) % (HALF + 2)
            states.append(user.state(counts[place], refine=(place + step) % 3 > 0))

        outputs = compiled.refresh(states)

        wholes = plain.refresh([from_scratch(state) for state in states])
        for user, output, whole in zip(users, outputs, wholes, strict=True):
            assert_same(output, whole)
            user.remember(output)


def test_what_was_compiled_is_loaded_by_the_next_worker(engines, monkeypatch):
    plain, compiled = engines
    state = User(plain, seed=1).state(2)
    first = compiled.refresh([state])[0]
    folder = folder_of(compiled)

    def refuse(*_):
        raise AssertionError("it was compiled again")

    monkeypatch.setattr("encoder.compiled._compile", refuse)
    again = Engine(plain.bundle, compiled_folder=folder)

    assert_same(again.refresh([state])[0], first)


def test_another_models_passes_are_not_taken_for_ones_own(engines, monkeypatch):
    plain, compiled = engines
    state = User(plain, seed=1).state(2)
    compiled.refresh([state])
    folder = folder_of(compiled)
    other = Engine(replace(plain.bundle, model_version="other"), compiled_folder=folder)
    asked = []

    def note(module, example, path):
        asked.append(path)
        raise NotReady("noted")

    monkeypatch.setattr("encoder.compiled._compile", note)
    with pytest.raises(NotReady):
        other.refresh([state])

    assert len(asked) == 1
    assert not asked[0].exists()


def test_without_a_compiler_it_says_what_to_do(engines, tmp_path):
    plain, _ = engines
    engine = Engine(plain.bundle, compiled_folder=tmp_path)

    nobody = torch._inductor.config.patch("cpp.cxx", ("no-such-compiler",))
    with nobody, pytest.raises(NotReady, match="install g\\+\\+"):
        engine.refresh([User(plain, seed=1).state(2)])

    assert not list(tmp_path.iterdir())
