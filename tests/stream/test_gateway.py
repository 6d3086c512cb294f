import asyncio
import threading
import time
from dataclasses import dataclass

import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from infra.grpc_server import GrpcServer
from protos.errors import DependencyDown
from protos.rec.v1 import events_pb2, events_pb2_grpc, items_pb2, items_pb2_grpc
from protos.rec.v1.events_pb2 import Event, PublishRequest, PublishStreamRequest
from protos.rec.v1.items_pb2 import Item
from stream.gateway_service import GatewayMetrics, build_services
from stream.gateway_settings import GatewaySettings
from stream.item_publisher import ItemPublisher
from stream.producer import Producer
from tests.stream.fake_writer import FakeWriter

LIMIT_S = 0.5
TOMORROW_MS = 24 * 3600 * 1000


@dataclass
class Gateway:
    """A served gateway whose log is in memory."""

    writer: FakeWriter
    registry: CollectorRegistry
    channel: grpc.aio.Channel
    events: events_pb2_grpc.EventServiceStub
    items: items_pb2_grpc.ItemServiceStub

    def count(self, name, outcome):
        return self.registry.get_sample_value(f"freshet_gateway_{name}_total", {"outcome": outcome})


@pytest.fixture
async def gateway():
    writer, registry = FakeWriter(), CollectorRegistry()
    producer, items = Producer(writer), ItemPublisher(writer)
    services = build_services(producer, items, GatewayMetrics(registry), LIMIT_S)
    server = GrpcServer("127.0.0.1:0", services)
    port = await server.start()
    await server.set_serving()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        events = events_pb2_grpc.EventServiceStub(channel)
        yield Gateway(writer, registry, channel, events, items_pb2_grpc.ItemServiceStub(channel))
    await server.stop(grace_s=0)


def click(item_id="50", **fields):
    return Event(item_id=item_id, action="click", **fields)


async def refusal(call):
    """Return the status of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_published_event_is_in_the_log_and_has_a_receipt(gateway):
    request = PublishRequest(user_id="user", events=[click(event_id="e1", event_time_ms=7)])

    response = await gateway.events.Publish(request)

    assert gateway.writer.events() == [click(event_id="e1", event_time_ms=7)]
    assert [(one.event_id, one.accepted) for one in response.results] == [("e1", True)]
    assert (response.receipt.tenant, response.receipt.user_id) == ("default", "user")
    assert response.receipt.offset == 0
    assert gateway.count("events", "accepted") == 1


async def test_a_missing_name_and_time_are_filled_in(gateway):
    response = await gateway.events.Publish(PublishRequest(user_id="user", events=[click()]))

    (event,) = gateway.writer.events()
    assert event.event_id
    assert event.event_id == response.results[0].event_id
    assert abs(event.event_time_ms - time.time() * 1000) < 5_000


async def test_a_topic_that_the_client_forgot_is_asked_for_beside_the_event_loop(gateway):
    gateway.writer.forgotten |= {"rec.events", "rec.items"}
    published = PublishRequest(user_id="user", events=[click()])
    streamed = iter([PublishStreamRequest(publish=published)])

    await gateway.events.Publish(published)
    assert gateway.writer.warmed_on is not threading.current_thread()
    gateway.writer.forgotten.add("rec.events")
    assert (await gateway.events.PublishStream(streamed)).n_accepted == 1
    await gateway.items.UpsertItems(
        items_pb2.UpsertItemsRequest(items=[Item(item_id="1", title="One")])
    )
    gateway.writer.forgotten.add("rec.items")
    await gateway.items.DeleteItems(items_pb2.DeleteItemsRequest(item_ids=["1"]))

    assert len(gateway.writer.log) == 4
    assert not gateway.writer.forgotten


async def test_a_bad_event_is_refused_alone(gateway):
    events = [click("1"), Event(item_id="2", action="peek"), click(""), click("4")]

    response = await gateway.events.Publish(PublishRequest(user_id="user", events=events))

    assert [one.accepted for one in response.results] == [True, False, False, True]
    assert "not declared" in response.results[1].reason
    assert "item_id is empty" in response.results[2].reason
    assert len(gateway.writer.log) == 1
    assert [event.item_id for event in gateway.writer.events()] == ["1", "4"]
    assert gateway.count("events", "refused") == 2


@pytest.mark.parametrize(
    ("event_time_ms", "reason"),
    [
        (-1, "not after 1970"),
        (int(time.time() * 1000) + 2 * TOMORROW_MS, "24 h in the future"),
        (int(time.time() * 1_000_000), "are these milliseconds"),
    ],
    ids=["negative", "in two days", "microseconds"],
)
async def test_an_impossible_time_is_refused_at_once(gateway, event_time_ms, reason):
    events = [click(event_time_ms=event_time_ms)]

    response = await gateway.events.Publish(PublishRequest(user_id="user", events=events))

    assert reason in response.results[0].reason
    assert not response.HasField("receipt")
    assert gateway.writer.log == []


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (PublishRequest(), "0 events; send 1 to 1,000"),
        (PublishRequest(user_id="user"), "0 events"),
        (PublishRequest(user_id="user", events=[click()] * 1001), "1,001 events"),
        (PublishRequest(events=[click()]), "user_id is empty"),
        (PublishRequest(user_id="x" * 257, events=[click()]), "256 bytes"),
        (PublishRequest(user_id="user", tenant="Shop!", events=[click()]), "tenant"),
        (
            PublishRequest(user_id="u", events=[click(properties={"a": "x" * 9_000})] * 120),
            "smaller groups",
        ),
    ],
)
async def test_a_request_that_is_wrong_as_a_whole_is_an_invalid_argument(
    gateway, request_, complaint
):
    error = await refusal(gateway.events.Publish(request_))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert complaint in error.details()
    assert gateway.writer.log == []


async def test_silence_of_kafka_is_unavailable_before_the_callers_deadline(gateway):
    gateway.writer.is_silent = True
    request = PublishRequest(user_id="user", events=[click()])

    error = await refusal(gateway.events.Publish(request, timeout=0.3))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "same event_id" in error.details()


async def test_silence_of_kafka_is_unavailable_without_a_deadline_too(gateway):
    gateway.writer.is_silent = True
    start = time.monotonic()

    error = await refusal(gateway.events.Publish(PublishRequest(user_id="user", events=[click()])))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert LIMIT_S * 0.8 < time.monotonic() - start < LIMIT_S + 2


async def test_a_record_that_kafka_lost_is_repeated_as_it_was(gateway):
    gateway.writer.failures.append(DependencyDown("a broker fell"))

    await gateway.events.Publish(PublishRequest(user_id="user", events=[click()]))

    first, second = gateway.writer.log
    assert first.value == second.value


async def test_a_full_buffer_is_resource_exhausted_with_when_to_come_again(gateway):
    gateway.writer.room = 0

    error = await refusal(gateway.events.Publish(PublishRequest(user_id="user", events=[click()])))

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = rpc_status.from_call(error).details
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in details)
    assert retry.retry_delay.ToMilliseconds() > 0


async def test_a_stream_is_counted_and_its_refusals_are_named(gateway):
    requests = [
        PublishRequest(user_id="a", events=[click("1"), click("2")]),
        PublishRequest(user_id="", events=[click(), click()]),
        PublishRequest(user_id="b", events=[click("3"), Event(item_id="4", action="peek")]),
        PublishRequest(user_id="a", events=[click("5")]),
    ]

    response = await gateway.events.PublishStream(
        PublishStreamRequest(publish=request) for request in requests
    )

    assert (response.n_accepted, response.n_refused) == (4, 3)
    refused = [(one.request_index, one.event_index) for one in response.refused]
    assert refused == [(1, 0), (2, 1)]
    newest = {receipt.user_id: receipt.offset for receipt in response.receipts}
    assert set(newest) == {"a", "b"}
    n_of_a = sum(one.batch.user_id == "a" for one in gateway.writer.log)
    assert n_of_a == 2
    assert newest["a"] >= 1  # the second of a's two records


async def test_a_stream_waits_for_room_instead_of_failing(gateway):
    gateway.writer.is_silent, gateway.writer.room = True, 1

    async def requests():
        for number in range(3):
            yield PublishStreamRequest(
                publish=PublishRequest(user_id="user", events=[click(str(number))])
            )

    call = gateway.events.PublishStream(requests())
    while not call.done():
        await asyncio.sleep(0.02)
        gateway.writer.confirm_all()
    response = await call

    assert response.n_accepted == 3
    assert [event.item_id for event in gateway.writer.events()] == ["0", "1", "2"]


async def test_an_empty_stream_is_answered(gateway):
    response = await gateway.events.PublishStream(iter([]))

    assert (response.n_accepted, response.n_refused) == (0, 0)


async def test_erasing_a_user_is_a_record_with_a_receipt(gateway):
    response = await gateway.events.EraseUser(
        events_pb2.EraseUserRequest(user_id="user", reason="asked")
    )

    assert gateway.writer.log[0].batch.erase.reason == "asked"
    assert response.receipt.user_id == "user"


async def test_erasing_nobody_is_an_invalid_argument(gateway):
    error = await refusal(gateway.events.EraseUser(events_pb2.EraseUserRequest()))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_good_items_go_in_without_the_bad(gateway):
    items = [Item(item_id="1", title="One"), Item(title="nameless"), Item(item_id="3")]

    response = await gateway.items.UpsertItems(
        items_pb2.UpsertItemsRequest(tenant="shop", items=items)
    )

    assert [one.accepted for one in response.results] == [True, False, True]
    assert [one.key for one in gateway.writer.log] == [b"shop/1", b"shop/3"]
    kept = Item.FromString(gateway.writer.log[0].value)
    assert kept == Item(tenant="shop", item_id="1", title="One")
    assert gateway.count("items", "accepted") == 2


async def test_deleted_items_become_tombstones(gateway):
    response = await gateway.items.DeleteItems(
        items_pb2.DeleteItemsRequest(item_ids=["1", "", "x" * 300])
    )

    assert [one.accepted for one in response.results] == [True, False, False]
    assert [(one.key, one.value) for one in gateway.writer.log] == [(b"default/1", None)]


@pytest.mark.parametrize("n_items", [0, 1001])
async def test_a_request_holds_one_to_a_thousand_items(gateway, n_items):
    upsert = items_pb2.UpsertItemsRequest(items=[Item(item_id="1")] * n_items)
    delete = items_pb2.DeleteItemsRequest(item_ids=["1"] * n_items)

    for call in (gateway.items.UpsertItems(upsert), gateway.items.DeleteItems(delete)):
        error = await refusal(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_and_reflection_answer(gateway):
    health = health_pb2_grpc.HealthStub(gateway.channel)
    reflection = reflection_pb2_grpc.ServerReflectionStub(gateway.channel)

    answer = await health.Check(health_pb2.HealthCheckRequest(service="rec.v1.EventService"))
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    listed = [one async for one in reflection.ServerReflectionInfo(iter(asked))]

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    names = {service.name for service in listed[0].list_services_response.service}
    assert {"rec.v1.EventService", "rec.v1.ItemService"} <= names


def test_the_gateway_listens_on_loopback_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("FRESHET_GATEWAY_LISTEN", raising=False)

    assert GatewaySettings().listen.startswith("127.0.0.1:")
