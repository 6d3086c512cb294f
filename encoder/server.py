"""The encoder worker: `python -m encoder.server`. One process, one model, one thread for torch."""

import asyncio

import grpc.aio
import structlog
import torch

from encoder.bundle import load_bundle
from encoder.deployments import next_sequence
from encoder.service import EncoderServicer
from encoder.settings import EncoderSettings
from encoder.worker import Worker
from infra.grpc_server import GrpcServer, Service, wait_for_signal
from infra.logs import configure_logs
from infra.metrics import serve_metrics
from infra.settings import SharedSettings, refuse_unknown_environment
from protos.rec.v1.encoder_pb2 import DESCRIPTOR
from protos.rec.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server

log = structlog.get_logger(__name__)

SERVICE = DESCRIPTOR.services_by_name["EncoderService"].full_name


async def serve(settings: EncoderSettings, shared: SharedSettings) -> None:
    """Load, listen, warm up, say that we serve, and drain on SIGTERM."""
    bundle = load_bundle(settings.bundle or shared.state / "bundle", settings.device)
    sequence = settings.model_sequence or next_sequence(
        shared.state / "encoder" / "deployment.json", bundle.model_version
    )
    log.info("bundle_loaded", model=bundle.model_version, sequence=sequence, device=settings.device)
    worker = Worker(bundle, settings)
    servicer = EncoderServicer(worker, model_sequence=sequence, device=settings.device)

    def add_to(server: grpc.aio.Server) -> None:
        add_EncoderServiceServicer_to_server(servicer, server)

    server = GrpcServer(settings.listen, [Service(SERVICE, add_to)])
    stop_metrics = serve_metrics(settings.metrics_port)
    try:
        await server.start()
        await worker.warm_up()
        await server.set_serving()
        await wait_for_signal()
        await server.stop(settings.drain_s)
    finally:
        await worker.close()
        stop_metrics()


def main() -> None:
    """Read the settings once and serve until SIGTERM."""
    refuse_unknown_environment(EncoderSettings)
    settings, shared = EncoderSettings(), SharedSettings()
    configure_logs("encoder", log_format=shared.log_format, level=shared.log_level)
    torch.set_num_threads(settings.n_threads)
    asyncio.run(serve(settings, shared))


if __name__ == "__main__":
    main()
