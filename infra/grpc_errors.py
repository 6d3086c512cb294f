"""The one place where our errors become gRPC statuses, and statuses our errors again.

On the wire an error is a google.rpc.Status with ErrorInfo(reason, domain="freshet") and, where a
retry makes sense, RetryInfo. See protos/errors.py for what each status asks of whom.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from infra.grpc_handlers import Answer, Stream, wrapped
from protos import errors
from protos.errors import ERROR_DOMAIN, FreshetError

log = structlog.get_logger(__name__)

_BY_REASON: dict[str, type[FreshetError]] = {
    cls.reason(): cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, FreshetError)
}
_BY_STATUS: dict[grpc.StatusCode, type[FreshetError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.DependencyDown,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.TooLate,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidInput,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.NotPermitted,
}
_TOO_LARGE = "message larger than max"


def to_status(error: FreshetError) -> grpc.Status:
    """Render an error for the wire."""
    details = [error_details_pb2.ErrorInfo(reason=error.reason(), domain=ERROR_DOMAIN)]
    packed = [_pack(detail) for detail in details]
    if isinstance(error, errors.Overloaded):
        delay = duration_pb2.Duration(nanos=int(error.retry_after_s * 1e9) % 10**9)
        delay.seconds = int(error.retry_after_s)
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    code = getattr(code_pb2, error.status.name)
    return rpc_status.to_status(status_pb2.Status(code=code, message=str(error), details=packed))


def _pack(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def from_rpc_error(error: grpc.aio.AioRpcError, what: str) -> FreshetError:
    """Translate a failed call into our tree, so that callers outside this module never see grpc's
    errors.

    Args:
        what: who was called and where, e.g. "the encoder at 127.0.0.1:7052".
    """
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has code, details, metadata
    message = f"{what}: {error.details() or error.code().name}"
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN and info.reason in _BY_REASON:
            return _BY_REASON[info.reason](message)
    # grpc refuses it with RESOURCE_EXHAUSTED, which would be tried again and again.
    if _TOO_LARGE in (error.details() or ""):
        return errors.InvalidInput(message)
    cls: type[FreshetError] = _BY_STATUS.get(error.code(), FreshetError)
    return cls(message)


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Abort with the status of a FreshetError, or INTERNAL without any text for what nobody
    planned."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method
        return wrapped(
            handler, lambda f: _guard_call(f, method), lambda f: _guard_stream(f, method)
        )


def _guard_call(inner: Any, method: str) -> Answer:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            return await inner(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, method, error)

    return guarded


def _guard_stream(inner: Any, method: str) -> Stream:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            produced = inner(request, context)
            if inspect.isawaitable(produced):  # a handler of grpc's other style: it calls write
                await produced
                return
            async for response in produced:
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _abort(context, method, error)

    return guarded


async def _abort(context: Any, method: str, error: Exception) -> None:
    if isinstance(error, FreshetError):
        log.info("rpc_refused", method=method, reason=error.reason(), message=str(error))
        status = to_status(error)
        context.set_trailing_metadata(status.trailing_metadata)
        await context.abort(status.code, status.details, status.trailing_metadata)
    log.error("rpc_crashed", method=method, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has it")
