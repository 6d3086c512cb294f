"""How every client of ours reaches a gRPC server of ours.

The environment says how (DoorSettings): by TLS when there is an authority to trust, with our own
certificate and API key when there are any. So no client can forget one of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from infra.doors import is_loopback
from infra.settings import DoorSettings
from infra.tls import channel_credentials
from protos.errors import NotReady

MAX_MESSAGE_BYTES = 16 * 2**20
"""The largest that any call needs: 1,000 items with texts of 16 KiB for EncodeItems."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)

Options = Sequence[tuple[str, int]]


def sync_channel(
    address: str, options: Options = (), doors: DoorSettings | None = None
) -> grpc.Channel:
    """Return a channel for threads; options are added to ours.

    Raises:
        NotReady: a certificate cannot be used, or an API key would travel in the clear.
    """
    doors = doors or DoorSettings.load()
    _keep_key_off_the_wire(address, doors)
    credentials, all_options = channel_credentials(doors), (*CHANNEL_OPTIONS, *options)
    if credentials is None:
        made = grpc.insecure_channel(address, options=all_options)
    else:
        made = grpc.secure_channel(address, credentials, options=all_options)
    if doors.api_key is None:
        return made
    return grpc.intercept_channel(made, _SendKey(doors.api_key.get_secret_value()))


def aio_channel(
    address: str, options: Options = (), doors: DoorSettings | None = None
) -> grpc.aio.Channel:
    """Return a channel for the running event loop; as `sync_channel`."""
    doors = doors or DoorSettings.load()
    _keep_key_off_the_wire(address, doors)
    credentials, all_options = channel_credentials(doors), (*CHANNEL_OPTIONS, *options)
    key = doors.api_key.get_secret_value() if doors.api_key else None
    interceptors = [kind(key) for kind in _AIO_KINDS] if key else []
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=all_options, interceptors=interceptors)
    return grpc.aio.secure_channel(
        address, credentials, options=all_options, interceptors=interceptors
    )


def _keep_key_off_the_wire(address: str, doors: DoorSettings) -> None:
    host = address.rpartition(":")[0]
    if doors.api_key and not (doors.tls_ca or doors.insecure or is_loopback(host)):
        raise NotReady(
            f"FRESHET_API_KEY would go to {address} in the clear; set FRESHET_TLS_CA, or "
            "FRESHET_INSECURE=true"
        )


class _Sender:
    def __init__(self, key: str) -> None:
        self._header = ("authorization", f"Bearer {key}")


class _SendKey(
    _Sender,
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the key to every call: call credentials of gRPC would do so over TLS only."""

    def _send(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        return continuation(_WithHeader(details, self._header), request)

    intercept_unary_unary: Any = _send
    intercept_unary_stream: Any = _send
    intercept_stream_unary: Any = _send
    intercept_stream_stream: Any = _send


class _WithHeader(grpc.ClientCallDetails):
    def __init__(self, details: Any, header: tuple[str, str]) -> None:
        self.method, self.timeout = details.method, details.timeout
        self.metadata = (*(details.metadata or ()), header)
        self.credentials, self.compression = details.credentials, details.compression
        self.wait_for_ready = details.wait_for_ready


class _AioSender(_Sender):
    async def _send(
        self, continuation: Callable[[Any, Any], Any], details: Any, request: Any
    ) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._header)
        return await continuation(details._replace(metadata=metadata), request)


# grpc.aio looks at the first kind only that an interceptor is of.
class _AioUnaryUnary(_AioSender, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _AioSender._send


class _AioUnaryStream(_AioSender, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _AioSender._send


class _AioStreamUnary(_AioSender, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary: Any = _AioSender._send


class _AioStreamStream(_AioSender, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _AioSender._send


_AIO_KINDS = (_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream)
