"""Why a service did not answer, in the words that the page shows."""

import grpc
import grpc.aio
import structlog
from grpc_status import rpc_status

from infra.grpc_errors import from_rpc_error
from protos.errors import FreshetError

log = structlog.get_logger(__name__)

_SILENT = {
    grpc.StatusCode.UNAVAILABLE: "does not answer",
    grpc.StatusCode.DEADLINE_EXCEEDED: "does not answer in time",
}


def page_error(error: grpc.aio.AioRpcError, who: str) -> FreshetError:
    """Return what `who` said; where only gRPC spoke, of sockets and addresses, say it plainly."""
    failure = from_rpc_error(error, who)
    words = _SILENT.get(error.code())
    if words is None or rpc_status.from_call(error) is not None:  # type: ignore[arg-type]
        return failure
    log.info("no_answer", who=who, message=error.details())
    return type(failure)(f"{who} {words}")
