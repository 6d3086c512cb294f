"""What interceptors do to a handler: put something round the function that answers a call."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

Answer = Callable[[Any, Any], Awaitable[Any]]
"""Of (request or stream of requests, context): one response."""
Stream = Callable[[Any, Any], AsyncIterator[Any]]
"""The same, of a stream of responses."""


def wrapped(
    handler: Any,
    answer: Callable[[Any], Answer],
    stream: Callable[[Any], Stream],
    *,
    parse: bool = True,
) -> Any:
    """Return the handler with its function replaced by what `answer` or `stream` makes of it.

    Args:
        parse: False leaves requests as they came, bytes.
    """
    codecs = handler.request_deserializer if parse else None, handler.response_serializer
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(answer(handler.unary_unary), *codecs)
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(answer(handler.stream_unary), *codecs)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(stream(handler.unary_stream), *codecs)
    return grpc.stream_stream_rpc_method_handler(stream(handler.stream_stream), *codecs)
