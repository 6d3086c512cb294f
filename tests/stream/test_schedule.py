from hypothesis import given
from hypothesis import strategies as st

from stream.schedule import Priority, RefreshScheduler

ANN, BOB, CAT = (0, b"ann"), (0, b"bob"), (1, b"cat")


def taken(scheduler, limit=32):
    return [key for key, _ in scheduler.take(limit)]


def test_user_is_in_flight_at_most_once():
    scheduler = RefreshScheduler()
    scheduler.touch(ANN)
    assert taken(scheduler) == [ANN]

    scheduler.touch(ANN)

    assert taken(scheduler) == []


def test_events_during_a_flight_share_one_refresh_after_it():
    scheduler = RefreshScheduler()
    scheduler.touch(ANN)
    scheduler.take(1)
    for _ in range(100):
        scheduler.touch(ANN)

    scheduler.done(ANN)

    assert taken(scheduler) == [ANN]
    scheduler.done(ANN)
    assert taken(scheduler) == []


def test_waiting_is_bounded_by_users():
    scheduler = RefreshScheduler()
    for i in range(1000):
        scheduler.touch((0, b"%d" % (i % 7)))

    assert scheduler.n_waiting == 7


def test_open_feeds_go_first_then_by_arrival_then_spare_work():
    scheduler = RefreshScheduler()
    scheduler.touch((0, b"owed"), Priority.SPARE)
    scheduler.touch(ANN)
    scheduler.touch(BOB)
    scheduler.touch(CAT, Priority.OPEN_FEED)

    assert taken(scheduler) == [CAT, ANN, BOB]
    assert taken(scheduler) == [(0, b"owed")]


def test_higher_priority_lifts_a_waiting_user_and_a_lower_one_does_not_sink_him():
    scheduler = RefreshScheduler()
    scheduler.touch(ANN, Priority.SPARE)
    scheduler.touch(BOB)
    scheduler.touch(ANN, Priority.OPEN_FEED)
    scheduler.touch(ANN, Priority.SPARE)

    assert taken(scheduler) == [ANN, BOB]


def test_user_who_opens_a_feed_goes_first_if_he_waits():
    scheduler = RefreshScheduler()
    scheduler.touch(ANN)
    scheduler.touch(BOB)

    scheduler.promote(BOB)
    scheduler.promote(CAT)  # does not wait, and need not

    assert taken(scheduler) == [BOB, ANN]


def test_failed_user_waits_again_with_what_came_meanwhile():
    scheduler = RefreshScheduler()
    scheduler.touch(ANN)
    scheduler.take(1)
    scheduler.touch(ANN, Priority.OPEN_FEED)

    scheduler.retry(ANN, Priority.NORMAL)

    assert scheduler.take(1) == [(ANN, Priority.OPEN_FEED)]


def test_call_takes_no_more_than_its_limit():
    scheduler = RefreshScheduler()
    for i in range(40):
        scheduler.touch((0, b"%d" % i))

    assert len(scheduler.take(32)) == 32
    assert len(scheduler.take(32)) == 8


def test_dropped_users_are_forgotten_in_flight_too():
    scheduler = RefreshScheduler()
    for key in (ANN, CAT, BOB):
        scheduler.touch(key)
    scheduler.take(2)

    scheduler.drop(lambda key: key[0] == 0)
    scheduler.done(ANN)
    scheduler.retry(ANN, Priority.NORMAL)

    assert (scheduler.n_in_flight, scheduler.n_waiting) == (1, 0)


keys = st.integers(0, 4).map(lambda i: (0, b"%d" % i))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("touch"), keys, st.sampled_from(Priority)),
            st.tuples(st.just("take"), st.integers(1, 3), st.none()),
            st.tuples(st.sampled_from(["done", "retry", "promote"]), keys, st.none()),
        ),
        max_size=60,
    )
)
def test_nobody_is_forgotten_and_nobody_flies_twice(steps):
    """Against a plain model: a set of users who are owed, a set of those in flight."""
    scheduler = RefreshScheduler()
    owed, flying = set(), set()
    for step, what, priority in steps:
        if step == "touch":
            scheduler.touch(what, priority)
            owed.add(what)
        elif step == "take":
            for key, _ in scheduler.take(what):
                assert key in owed
                assert key not in flying
                flying.add(key)
                owed.discard(key)
        elif step == "done":
            scheduler.done(what)
            flying.discard(what)
        elif step == "retry":
            scheduler.retry(what, Priority.NORMAL)
            if what in flying:
                flying.discard(what)
                owed.add(what)
        else:
            scheduler.promote(what)

    for key in list(flying):
        scheduler.done(key)
    rest = set(taken(scheduler)) | set(taken(scheduler))
    assert rest == owed
