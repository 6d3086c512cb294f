"""The gateway from a program's side: requests repeated where that may help, errors as ours.

Everything that goes in may be repeated: an item replaces itself, an erasure erases nothing more.
"""

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio
from grpc_status import rpc_status
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random

from infra.channels import aio_channel
from infra.grpc_errors import from_rpc_error
from protos.errors import DependencyDown, FreshetError, Overloaded
from protos.rec.v1.events_pb2 import EraseUserRequest, EraseUserResponse, Receipt
from protos.rec.v1.events_pb2_grpc import EventServiceStub
from protos.rec.v1.items_pb2 import (
    DeleteItemsRequest,
    DeleteItemsResponse,
    Item,
    ItemResult,
    UpsertItemsRequest,
    UpsertItemsResponse,
)
from protos.rec.v1.items_pb2_grpc import ItemServiceStub

Request = TypeVar("Request")
Response = TypeVar("Response")


class GatewayClient:
    """Made inside the running event loop. Every method raises the errors of protos/errors.py."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        """
        Args:
            timeout_s: for one request with all its repeats.
        """
        self._what, self._timeout_s = f"the gateway at {address}", timeout_s
        self._channel = aio_channel(address)
        self._items = ItemServiceStub(self._channel)
        self._events = EventServiceStub(self._channel)
        self._has_answered = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def upsert(self, tenant: str, items: Sequence[Item]) -> Sequence[ItemResult]:
        """Insert or replace 1 to 1,000 items; return what became of each, durable if accepted."""
        request = UpsertItemsRequest(tenant=tenant, items=items)
        response: UpsertItemsResponse = await self._call(self._items.UpsertItems, request)
        results: Sequence[ItemResult] = response.results
        return results

    async def delete(self, tenant: str, item_ids: Sequence[str]) -> Sequence[ItemResult]:
        """Delete 1 to 1,000 items; return what became of each."""
        request = DeleteItemsRequest(tenant=tenant, item_ids=item_ids)
        response: DeleteItemsResponse = await self._call(self._items.DeleteItems, request)
        results: Sequence[ItemResult] = response.results
        return results

    async def erase(self, tenant: str, user_id: str, reason: str) -> Receipt:
        """Erase a user; the receipt is that of the erasure's record."""
        request = EraseUserRequest(tenant=tenant, user_id=user_id, reason=reason)
        response: EraseUserResponse = await self._call(self._events.EraseUser, request)
        receipt: Receipt = response.receipt
        return receipt

    async def _call(self, method: Callable[..., Awaitable[Response]], request: Request) -> Response:
        async def attempt() -> Response:
            try:
                response = await method(request, timeout=self._timeout_s)
            except grpc.aio.AioRpcError as error:
                raise self._translated(error) from error
            self._has_answered = True
            return response

        repeat = AsyncRetrying(
            retry=retry_if_exception(self._is_worth_repeating),
            wait=wait_random(0.1, 0.5),
            stop=stop_after_delay(self._timeout_s),
            reraise=True,
        )
        return await repeat(attempt)

    def _is_worth_repeating(self, error: BaseException) -> bool:
        """A gateway that was never there is told of at once; one that goes away may come back."""
        if not isinstance(error, FreshetError) or not error.retryable:
            return False
        return self._has_answered or isinstance(error, Overloaded)

    def _translated(self, error: grpc.aio.AioRpcError) -> FreshetError:
        is_away = error.code() == grpc.StatusCode.UNAVAILABLE
        if is_away and rpc_status.from_call(error) is None:  # type: ignore[arg-type]
            return DependencyDown(
                f"{self._what} cannot be reached; run `freshet up`, or name another by "
                "FRESHET_GATEWAY"
            )
        return from_rpc_error(error, self._what)
