"""The Kafka clients of the worker, each with the settings that its duty asks for."""

import asyncio

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from infra.kafka_topics import Topics
from infra.settings import SharedSettings
from stream.faust_seams import App, Tables, transport_of_runs
from stream.settings import StreamSettings, worker_folder

_BATCH_BYTES = 2**20
_FETCH_BYTES = 4 * 2**20
_STREAM_BUFFER = 4_096
"""Changelog records that wait during recovery."""
_CLAIM_S = 30.0
_DAY_MS = 24 * 3600 * 1000


def app_id(topics: Topics) -> str:
    """Return the consumer group, which also names the changelog topic (Topics.histories)."""
    return f"{topics.prefix}-stream"


def new_app(shared: SharedSettings, settings: StreamSettings, topics: Topics) -> faust.App:
    """Return the faust app, which reads rec.events in runs."""
    brokers = [f"kafka://{address}" for address in shared.kafka_bootstrap.split(",")]
    app = App(
        app_id(topics),
        broker=";".join(brokers),
        store="rocksdb://",
        datadir=str(worker_folder(shared.state, settings.instance)),
        web_enabled=False,
        autodiscover=False,
        topic_partitions=shared.n_partitions,
        consumer_group_instance_id=settings.instance,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=40.0,
        consumer_max_fetch_size=_FETCH_BYTES,
        stream_buffer_maxsize=_STREAM_BUFFER,
        stream_wait_empty=False,
        TableManager=Tables,
    )
    app.transport = transport_of_runs([topics.events])(app.conf.broker_consumer, app)
    return app


async def started_producer(shared: SharedSettings, client_id: str) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        bootstrap_servers=shared.kafka_bootstrap,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=_BATCH_BYTES,
        max_request_size=2 * _BATCH_BYTES,
    )
    await producer.start()
    return producer


async def claiming_producer(
    bootstrap: str, client_id: str, transactional_id: str
) -> AIOKafkaProducer:
    """Return an idempotent producer with the newest epoch of a transactional id.

    It shuts out all older producers with that id wherever it has written once, and writes without
    transactions (stream/changelog.py says why).
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        transactional_id=transactional_id,
        linger_ms=0,
        max_batch_size=_BATCH_BYTES,
        max_request_size=2 * _BATCH_BYTES,
    )
    await producer.start()
    # aiokafka has no such producer in public; tests/integration/test_fencing.py holds the broker
    # and this private name to it.
    manager = producer._txn_manager
    async with asyncio.timeout(_CLAIM_S):
        await manager.wait_for_pid()
    manager.transactional_id = None
    return producer


def items_consumer(
    shared: SharedSettings, settings: StreamSettings, topics: Topics
) -> AIOKafkaConsumer:
    """Return the consumer of rec.items, in a group of its own."""
    session_ms = int(settings.session_timeout_s * 1000)
    return AIOKafkaConsumer(
        topics.items,
        bootstrap_servers=shared.kafka_bootstrap,
        group_id=f"{app_id(topics)}-items",
        group_instance_id=settings.instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // 4,
        # The encoder may be away for long; that is no reason to leave the group.
        max_poll_interval_ms=_DAY_MS,
    )


def plain_consumer(shared: SharedSettings) -> AIOKafkaConsumer:
    """Return a consumer without a group or a topic."""
    return AIOKafkaConsumer(
        bootstrap_servers=shared.kafka_bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
