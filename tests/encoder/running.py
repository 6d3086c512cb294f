"""A worker that is served, for tests that ask it."""

import grpc
import numpy as np

from encoder.server import service_of
from encoder.service import EncoderServicer
from encoder.settings import EncoderSettings
from encoder.worker import Worker
from infra.grpc_server import GrpcServer
from protos.rec.v1 import encoder_pb2 as pb
from protos.rec.v1.encoder_pb2_grpc import EncoderServiceStub

CLOSE = {"rtol": 1e-4, "atol": 3e-5}


class Running:
    """A worker behind a real gRPC server."""

    def __init__(self, bundle, **settings):
        self._bundle, self._settings = bundle, EncoderSettings(**settings)

    async def __aenter__(self):
        self.worker = Worker(self._bundle, self._settings, model_sequence=7)
        servicer = EncoderServicer(self.worker, model_sequence=7, device=self._settings.device)
        self._server = GrpcServer("127.0.0.1:0", [service_of(servicer)])
        port = await self._server.start()
        await self.worker.warm_up()
        await self._server.set_serving()
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub = EncoderServiceStub(self._channel)
        return self

    async def __aexit__(self, *exc):
        await self._channel.close()
        await self._server.stop(0)
        await self.worker.close()

    async def refresh(self, *states, **fields):
        reply = await self.stub.Refresh(pb.RefreshRequest(users=states, **fields), timeout=20)
        return list(reply.results)


def vectors(result):
    found = result.interests
    assert result.status == pb.RESULT_STATUS_OK, result.reason
    return np.frombuffer(found.vectors, "<f4").reshape(found.n_interests, found.dim)
