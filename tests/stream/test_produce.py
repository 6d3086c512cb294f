import json
from collections import deque

import pytest

from protos.errors import DependencyDown
from stream.produce_command import read_lines, send
from stream.producer import Producer
from tests.stream.fake_writer import FakeWriter

GOOD = {"user_id": "ada", "item_id": "50", "action": "click", "event_id": "e1"}


def outcome_of(*lines, writer=None):
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    producer = Producer(writer or FakeWriter())
    return list(send(read_lines(raw, "shop"), producer, timeout_s=1))[-1]


def test_each_line_is_one_event_of_its_user():
    writer = FakeWriter()

    outcome = outcome_of(GOOD, GOOD | {"user_id": "bo", "tenant": "other"}, writer=writer)

    assert (outcome.n_sent, outcome.n_refused) == (2, 0)
    batches = [record.batch for record in writer.log]
    assert [(b.tenant, b.user_id) for b in batches] == [("shop", "ada"), ("other", "bo")]
    assert batches[0].events[0].event_id == "e1"


def test_blank_lines_are_passed_over():
    assert outcome_of(b"\n", GOOD, b"   \n").n_sent == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "no event in JSON"),
        (b"[1]", "no JSON object"),
        (b"\xff\xfe", "no event in JSON"),
        (b"[" * 100_000, "no event in JSON"),
        (GOOD | {"user_id": 5}, "must be texts"),
        (GOOD | {"user_id": ""}, "user_id"),
        (GOOD | {"action": "clik"}, "did you mean 'click'"),
        (GOOD | {"itme_id": "50"}, "itme_id"),
        (GOOD | {"event_time_ms": 1e40}, "event_time_ms"),
        (GOOD | {"tenant": "NOT ONE"}, "tenant"),
    ],
)
def test_a_bad_line_is_told_by_its_number_and_its_siblings_go(line, words):
    outcome = outcome_of(GOOD, line, GOOD)

    assert (outcome.n_sent, outcome.n_refused) == (2, 1)
    ((number, problem),) = outcome.problems
    assert number == 2
    assert words in problem


def test_a_line_that_kafka_refused_is_told():
    writer = FakeWriter(failures=deque([DependencyDown("away")]))

    outcome = outcome_of(GOOD, GOOD, writer=writer)

    assert (outcome.n_sent, outcome.problems) == (1, [(1, "away")])


def test_of_many_bad_lines_the_first_are_told_and_all_are_counted():
    outcome = outcome_of(*[b"{"] * 50)

    assert (outcome.n_refused, len(outcome.problems)) == (50, 20)
