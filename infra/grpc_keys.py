"""Who may call what: the API key of a call against every tenant that its messages name.

Refusals are raised, and become statuses in grpc_errors.py like any other. They say nothing of
whether a tenant, a user or an item exists: they are made before anything is looked up.

Health is open to all, for those who probe it; reflection wants any key. A call that goes on asks
again with every message, so a feed that is open ends with its key.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from infra.api_keys import ApiKey, KeyFile, digest_of
from infra.grpc_handlers import Answer, Stream, wrapped
from infra.tenants import tenants_of
from protos.errors import NotPermitted, Unauthenticated

_N_SHOWN = 5
_OPEN = "/grpc.health.v1.Health/"


class KeyInterceptor(grpc.aio.ServerInterceptor):
    """Stands inside of StatusInterceptor."""

    def __init__(self, keys: KeyFile) -> None:
        self._keys = keys

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler: Any = await continuation(details)
        if handler is None or details.method.startswith(_OPEN):
            return handler
        caller = Caller(self._keys, bearer(details.invocation_metadata or ()))
        known = caller.is_known  # what a stranger sends is not even parsed
        if handler.request_streaming:
            return wrapped(handler, _of_stream(caller), _stream_of_stream(caller), parse=known)
        return wrapped(handler, _of_one(caller), _stream_of_one(caller), parse=known)


class Caller:
    """Whoever sent a key, for the length of a call."""

    def __init__(self, keys: KeyFile, key: str) -> None:
        self._keys, self._digest = keys, digest_of(key) if key else ""

    @property
    def is_known(self) -> bool:
        return self._keys.find(self._digest) is not None

    def check(self, tenants: Collection[str] = ()) -> ApiKey:
        """Return the key. Raises Unauthenticated, and NotPermitted for a tenant not its own."""
        key = self._keys.find(self._digest)
        if key is None:
            raise Unauthenticated(
                "the API key is not known, or no longer valid; ask the operator for one"
                if self._digest
                else "send an API key: metadata `authorization: Bearer KEY`"
            )
        if not key.may_act_for(tenants):
            own = sorted(key.tenants)
            shown = ", ".join([*own[:_N_SHOWN], *(["..."] if len(own) > _N_SHOWN else [])])
            raise NotPermitted(
                f"API key {key.name!r} may not act for every tenant that the request names; it may "
                f"for {shown} (an empty tenant is 'default')"
            )
        return key

    def check_message(self, message: Any) -> Collection[str]:
        """The same for the tenants that a message names; return them."""
        if self.check().is_for_all:
            return ()
        tenants = tenants_of(message)
        self.check(tenants)
        return tenants


def bearer(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """Return the key of `authorization: Bearer KEY`, "" when there is none."""
    for name, value in metadata:
        if name == "authorization" and isinstance(value, str):
            scheme, _, key = value.partition(" ")
            return key.strip() if scheme.lower() == "bearer" else ""
    return ""


def _of_one(caller: Caller) -> Callable[[Any], Answer]:
    def around(inner: Any) -> Answer:
        async def checked(request: Any, context: Any) -> Any:
            caller.check_message(request)
            return await inner(request, context)

        return checked

    return around


def _of_stream(caller: Caller) -> Callable[[Any], Answer]:
    def around(inner: Any) -> Answer:
        async def checked(requests: Any, context: Any) -> Any:
            caller.check()
            return await inner(_checked_requests(caller, requests), context)

        return checked

    return around


def _stream_of_one(caller: Caller) -> Callable[[Any], Stream]:
    def around(inner: Any) -> Stream:
        async def checked(request: Any, context: Any) -> AsyncIterator[Any]:
            tenants = caller.check_message(request)
            async with aclosing(_responses(inner, request, context)) as responses:
                async for response in responses:
                    caller.check(tenants)
                    yield response

        return checked

    return around


def _stream_of_stream(caller: Caller) -> Callable[[Any], Stream]:
    def around(inner: Any) -> Stream:
        async def checked(requests: Any, context: Any) -> AsyncIterator[Any]:
            caller.check()
            own = _checked_requests(caller, requests)
            async with aclosing(_responses(inner, own, context)) as responses:
                async for response in responses:
                    caller.check()
                    yield response

        return checked

    return around


async def _checked_requests(caller: Caller, requests: Any) -> AsyncIterator[Any]:
    async for request in requests:
        caller.check_message(request)
        yield request


async def _responses(inner: Any, request: Any, context: Any) -> Any:
    produced = inner(request, context)
    if inspect.isawaitable(produced):  # a handler of grpc's other style: it calls write
        await produced
        return
    async with aclosing(produced):
        async for response in produced:
            yield response
