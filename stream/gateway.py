"""`python -m stream.gateway`: the way in for producers without a Kafka client.

EventService and ItemService over gRPC (stream/gateway_service.py); both only write to Kafka. It
creates the topics that are missing, so it can be the first process of a new installation. Any
number of gateways may run: they share nothing but the log.
"""

import asyncio
import sys

import structlog

from infra.grpc_server import GrpcServer, wait_for_signal
from infra.kafka_topics import Topics, ensure_topics
from infra.logs import configure_logs
from infra.metrics import serve_metrics
from infra.settings import SharedSettings, refuse_unknown_environment
from protos.errors import FreshetError
from stream.gateway_service import GatewayMetrics, build_services
from stream.gateway_settings import GatewaySettings
from stream.item_publisher import ItemPublisher
from stream.kafka_writer import KafkaWriter, WriterOptions
from stream.producer import Producer

log = structlog.get_logger(__name__)


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
    producer = Producer(writer, topic_prefix=shared.topic_prefix)
    items = ItemPublisher(writer, topic_prefix=shared.topic_prefix)
    services = build_services(producer, items, metrics, settings.timeout_s)
    server = GrpcServer(settings.listen, services)
    await server.start()
    stop_metrics = serve_metrics(settings.metrics_port)
    try:
        signalled = asyncio.create_task(wait_for_signal())
        await asyncio.sleep(0)  # it listens before anybody hears that we are ready
        await server.set_serving()
        await signalled
    finally:
        await server.stop(settings.grace_s)
        stop_metrics()


def main() -> None:
    shared, settings = SharedSettings(), GatewaySettings()
    configure_logs("gateway", log_format=shared.log_format, level=shared.log_level)
    try:
        refuse_unknown_environment(GatewaySettings)
        asyncio.run(serve(shared, settings))
    except FreshetError as error:
        log.error("cannot_go_on", reason=error.reason(), message=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
