import threading
import time

import pytest

from protos.errors import DependencyDown, InvalidInput, Overloaded
from stream.kafka_writer import ByteBudget, KafkaWriter, WriterOptions


def test_kafka_that_is_not_there_is_said_so_within_the_deadline():
    start = time.monotonic()

    with pytest.raises(DependencyDown, match=r"127\.0\.0\.1:1 does not answer; is it up"):
        KafkaWriter("127.0.0.1:1", WriterOptions(timeout_s=0.3))

    assert time.monotonic() - start < 2


@pytest.mark.parametrize("address", ["", "kafka", "kafka:", ":9092", "127.0.0.1:9092,kafka:x"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InvalidInput, match="host:port"):
        KafkaWriter(address)


def test_a_full_budget_refuses_what_does_not_fit():
    budget = ByteBudget(100)
    budget.take(60, wait_s=0)

    with pytest.raises(Overloaded):
        budget.take(60, wait_s=0)

    assert budget.used_bytes == 60


def test_one_record_larger_than_the_budget_goes_alone():
    budget = ByteBudget(100)

    budget.take(500, wait_s=0)

    with pytest.raises(Overloaded):
        budget.take(1, wait_s=0)


def test_whoever_waits_goes_on_when_room_is_given_back():
    budget = ByteBudget(100)
    budget.take(100, wait_s=0)
    threading.Timer(0.1, budget.give_back, [100]).start()

    budget.take(80, wait_s=5)

    assert budget.used_bytes == 80


def test_waiting_for_room_ends_at_the_deadline():
    budget = ByteBudget(100)
    budget.take(100, wait_s=0)
    start = time.monotonic()

    with pytest.raises(Overloaded):
        budget.take(1, wait_s=0.2)

    assert 0.1 < time.monotonic() - start < 2
