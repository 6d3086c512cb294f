"""A real encoder that reads the catalogue from a real Kafka before it serves."""

import grpc.aio
import pytest

from encoder.bundle import load_bundle, save_bundle
from infra.kafka_topics import Topics, ensure_topics
from infra.stack.ports import PortReservations
from protos.keys import text_digest
from protos.rec.v1.encoder_pb2 import RESULT_STATUS_OK, RefreshRequest
from protos.rec.v1.encoder_pb2_grpc import EncoderServiceStub
from protos.rec.v1.items_pb2 import Item
from stream.item_publisher import ItemPublisher
from tests.encoder.tiny import make_bundle, make_user, set_newest
from tests.integration.encoder_process import EncoderProcess

PREFIX = "encoder-items"


@pytest.fixture
def encoder(kafka_bootstrap, tmp_path):
    """Not started yet."""
    ensure_topics(kafka_bootstrap, Topics(PREFIX), n_partitions=4)
    save_bundle(make_bundle(), tmp_path / "bundle")
    with PortReservations(tmp_path) as ports:
        process = EncoderProcess(
            tmp_path / "bundle",
            tmp_path,
            ports,
            "encoder",
            encoder_follow_items=True,
            kafka_bootstrap=kafka_bootstrap,
            topic_prefix=PREFIX,
        )
    yield process
    process.kill()


async def test_a_replica_that_says_it_serves_knows_the_texts_of_the_topic(
    encoder, kafka_bootstrap, tmp_path
):
    bundle = load_bundle(tmp_path / "bundle")
    with ItemPublisher(kafka_bootstrap, topic_prefix=PREFIX) as items:
        items.upsert(Item(item_id=f"new-{n}", title=f"A film of {n}") for n in range(3000))

    encoder.start().wait_ready()

    state = make_user(bundle, 3).state
    text = "A film of 2999"
    set_newest(state, "new-2999", text_digest(text))
    async with grpc.aio.insecure_channel(encoder.address) as channel:
        request = RefreshRequest(users=[state])
        answer = await EncoderServiceStub(channel).Refresh(request, timeout=10)
    assert answer.results[0].status == RESULT_STATUS_OK
