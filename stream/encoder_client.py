"""The encoder over gRPC, and the one place here that knows grpc's errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio

from infra.channels import aio_channel
from infra.grpc_errors import from_rpc_error
from protos.errors import VersionMismatch
from protos.history import Shape
from protos.rec.v1.encoder_pb2 import (
    EncodeItemsRequest,
    EncodeItemsResponse,
    GetModelInfoRequest,
    GetModelInfoResponse,
    ItemText,
    RefreshRequest,
    RefreshResponse,
)
from protos.rec.v1.encoder_pb2_grpc import EncoderServiceStub

REFRESH_TIMEOUT_S = 10.0
ENCODE_TIMEOUT_S = 60.0
INFO_TIMEOUT_S = 2.0

# An encoder that comes back is found again within a second; grpc's own pause grows to two minutes.
_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True)
class Model:
    """What a state is cut for."""

    model_version: str
    codebook_version: str
    """16 hex digits"""
    codebook: int
    """The same as a number."""
    model_sequence: int
    n_blocks: int
    """Newest closed segments that the light recommender reads."""
    block_depth: int
    """Segments before it that a closed one's memory may depend on."""


class EncoderClient:
    """Made inside the running event loop. Every method raises the errors of protos/errors.py."""

    def __init__(self, address: str, shape: Shape) -> None:
        """
        Args:
            shape: sizes of our histories, which the model's must equal.
        """
        self._what = f"the encoder at {address}"
        self._shape = shape
        self._channel = aio_channel(address, _RECONNECT)
        self._stub = EncoderServiceStub(self._channel)

    async def refresh(self, request: RefreshRequest) -> RefreshResponse:
        try:
            response: RefreshResponse = await self._stub.Refresh(request, timeout=REFRESH_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._what) from error
        return response

    async def encode_items(self, items: Sequence[ItemText]) -> EncodeItemsResponse:
        request = EncodeItemsRequest(items=items)
        try:
            response: EncodeItemsResponse = await self._stub.EncodeItems(
                request, timeout=ENCODE_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._what) from error
        return response

    async def model(self) -> Model:
        """Ask which model serves.

        Raises:
            VersionMismatch: it reads histories of other sizes than ours.
        """
        try:
            found: GetModelInfoResponse = await self._stub.GetModelInfo(
                GetModelInfoRequest(), timeout=INFO_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._what) from error
        self._check(found)
        return Model(
            model_version=found.model_version,
            codebook_version=found.codebook_version,
            codebook=int(found.codebook_version, 16),
            model_sequence=found.model_sequence,
            n_blocks=found.n_blocks,
            block_depth=found.block_depth,
        )

    def _check(self, found: GetModelInfoResponse) -> None:
        ours = (self._shape.segment_size, self._shape.n_levels, self._shape.recent_size)
        theirs = (found.segment_size, found.n_levels, found.recent_size)
        if theirs != ours:
            raise VersionMismatch(
                f"{self._what} reads segments of S, Q, R = {theirs}, histories here have {ours}; "
                "serve a model that was trained for them"
            )

    async def close(self) -> None:
        await self._channel.close()
