import pytest

from protos.errors import DependencyDown
from retrieval.milvus.breaker import Breaker
from tests.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker("Milvus", first_pause_s=1, max_pause_s=4, clock=clock)


def is_open(breaker):
    try:
        breaker.check()
    except DependencyDown:
        return True
    return False


def test_calls_are_made_until_one_fails(breaker):
    assert not is_open(breaker)
    breaker.failed()
    assert is_open(breaker)


def test_after_the_pause_one_call_tries_and_the_others_are_still_refused(breaker, clock):
    breaker.failed()
    clock.now_s = 1.0
    assert [is_open(breaker) for _ in range(3)] == [False, True, True]


def test_the_one_that_tries_and_comes_through_closes_it_for_all(breaker, clock):
    breaker.failed()
    clock.now_s = 1.0
    breaker.check()
    breaker.succeeded()
    assert not any(is_open(breaker) for _ in range(3))


def test_pauses_grow_while_trying_fails_and_begin_anew_after_success(breaker, clock):
    breaker.failed()
    pauses = []
    for _ in range(4):
        begin_s = clock.now_s
        while is_open(breaker):
            clock.now_s += 0.5
        pauses.append(clock.now_s - begin_s)
        breaker.failed()
    assert pauses == [1, 2, 4, 4]

    breaker.succeeded()
    breaker.failed()
    clock.now_s += 1
    assert not is_open(breaker)


def test_calls_that_fail_together_count_once(breaker, clock):
    breaker.failed()
    breaker.failed()
    clock.now_s = 1.0
    assert not is_open(breaker)


def test_a_try_that_never_reports_is_followed_by_another(breaker, clock):
    breaker.failed()
    clock.now_s = 1.0
    breaker.check()
    clock.now_s = 2.0
    assert not is_open(breaker)
