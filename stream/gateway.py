"""`python -m stream.gateway`: the way in for producers without a Kafka client.

EventService and ItemService over gRPC (stream/gateway_service.py); both only write to Kafka. It
creates the topics that are missing, so it can be the first process of a new installation. Any
number of gateways may run: they share nothing but the log.
"""

import asyncio

from infra.grpc_server import GrpcServer
from infra.kafka_topics import Topics, ensure_topics
from infra.metrics import serve_metrics
from infra.process import catch_signals, process
from infra.settings import SharedSettings
from stream.gateway_service import GatewayMetrics, build_services
from stream.gateway_settings import GatewaySettings
from stream.item_publisher import ItemPublisher
from stream.kafka_writer import KafkaWriter, WriterOptions
from stream.producer import Producer


async def serve(shared: SharedSettings, settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the calls in flight and flush."""
    topics = Topics(shared.topic_prefix)
    ensure_topics(shared.kafka_bootstrap, topics, n_partitions=shared.n_partitions)
    writer = connect(shared, settings)
    try:
        writer.warm(topics.events, topics.items)
        metrics = GatewayMetrics()
        metrics.bytes_in_flight.set_function(lambda: writer.bytes_in_flight)
        await _serve(writer, metrics, shared, settings)
    finally:
        await asyncio.to_thread(writer.close)


def connect(shared: SharedSettings, settings: GatewaySettings) -> KafkaWriter:
    """Return the writer that all calls share. Raises DependencyDown."""
    options = WriterOptions(
        timeout_s=settings.timeout_s,
        linger_ms=settings.linger_ms,
        buffer_bytes=settings.buffer_bytes,
        client_id="freshet-gateway",
    )
    return KafkaWriter(shared.kafka_bootstrap, options)


async def _serve(
    writer: KafkaWriter, metrics: GatewayMetrics, shared: SharedSettings, settings: GatewaySettings
) -> None:
    stop = catch_signals()
    producer = Producer(writer, topic_prefix=shared.topic_prefix)
    items = ItemPublisher(writer, topic_prefix=shared.topic_prefix)
    services = build_services(producer, items, metrics, settings.timeout_s)
    server = GrpcServer(settings.listen, services)
    await server.start()
    stop_metrics = serve_metrics(settings.metrics_port)
    try:
        await server.set_serving()
        await stop
    finally:
        await server.stop(settings.grace_s)
        stop_metrics()


def main() -> None:
    with process("gateway", GatewaySettings) as (shared, settings):
        asyncio.run(serve(shared, settings))


if __name__ == "__main__":
    main()
