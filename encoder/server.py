"""The encoder worker: `python -m encoder.server`. One process, one model, one thread for torch."""

import asyncio
import gc
import sys
from typing import Any

import grpc.aio
import structlog
import torch

from encoder.bundle import load_bundle
from encoder.deployments import next_sequence
from encoder.item_feed import ItemFeed
from encoder.service import EncoderServicer
from encoder.settings import EncoderSettings
from encoder.worker import Worker
from infra.grpc_server import GrpcServer, Service
from infra.kafka_topics import Topics, ensure_topics
from infra.malloc import keep_freed_memory
from infra.metrics import serve_metrics
from infra.process import catch_signals, process
from infra.settings import SharedSettings
from protos.rec.v1.encoder_pb2 import DESCRIPTOR
from protos.rec.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server

log = structlog.get_logger(__name__)

SERVICE = DESCRIPTOR.services_by_name["EncoderService"].full_name

SWITCH_S = 0.0002
"""After which a thread of Python must give way. The one that computes comes back from a pass while
the event loop is busy with the answers before; it would wait Python's own 5 ms, as long as a batch
takes."""


async def serve(shared: SharedSettings, settings: EncoderSettings) -> None:
    """Load, listen, warm up, say that we serve, and drain on SIGTERM."""
    stop = catch_signals()
    bundle = load_bundle(settings.bundle or shared.state / "bundle", settings.device)
    sequence = settings.model_sequence or next_sequence(
        shared.state / "encoder" / "deployment.json", bundle.model_version
    )
    log.info("bundle_loaded", model=bundle.model_version, sequence=sequence, device=settings.device)
    folder = None
    if settings.compile:
        folder = settings.compiled_folder or shared.state / "encoder" / "compiled"
    worker = Worker(bundle, settings, model_sequence=sequence, compiled_folder=folder)
    servicer = EncoderServicer(worker, model_sequence=sequence, device=settings.device)
    server = GrpcServer(settings.listen, [service_of(servicer)])
    stop_metrics = serve_metrics(settings.metrics_port)
    feed = None
    try:
        if settings.follow_items:
            topics = Topics(shared.topic_prefix)
            await asyncio.to_thread(
                ensure_topics, shared.kafka_bootstrap, topics, n_partitions=shared.n_partitions
            )
            feed = ItemFeed(worker, shared.kafka_bootstrap, topics.items)
        await server.start()
        await worker.warm_up()
        if feed is not None:
            await _first(stop, feed.failed, asyncio.ensure_future(feed.catch_up()))
        gc.freeze()  # what stays for ever is not looked at again and again
        if not stop.done():
            await server.set_serving()
        await _first(stop, *([feed.failed] if feed else []))
    finally:
        await server.stop(settings.drain_s)
        if feed is not None:
            await feed.stop()
        await worker.close()
        stop_metrics()


async def _first(*futures: "asyncio.Future[Any]") -> None:
    """Wait for one of these, and raise what it raises."""
    done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for future in done:
        future.result()


def service_of(servicer: EncoderServicer) -> Service:
    def add_to(server: grpc.aio.Server) -> None:
        add_EncoderServiceServicer_to_server(servicer, server)

    return Service(SERVICE, add_to)


def main() -> None:
    with process("encoder", EncoderSettings) as (shared, settings):
        torch.set_num_threads(settings.n_threads)
        sys.setswitchinterval(SWITCH_S)
        keep_freed_memory()
        asyncio.run(serve(shared, settings))


if __name__ == "__main__":
    main()
