"""Which parts of a request may enter the log: the gateway's decisions, pure.

A request as a whole is refused (InvalidInput) for what would make every part of it wrong: no user,
a bad tenant, nothing in it, too much in it. Otherwise each event or item gets its own answer, and
the good ones go in without the bad.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from protos.errors import InvalidInput
from protos.keys import checked_tenant
from protos.rec.v1.events_pb2 import (
    EventBatch,
    EventResult,
    PublishRequest,
    PublishStreamResponse,
    Receipt,
    RefusedEvent,
)
from protos.rec.v1.items_pb2 import Item, ItemResult
from stream.producer import check_size, make_batch
from stream.validity import (
    MAX_EVENTS,
    MAX_ITEMS,
    EventNames,
    event_refusal,
    fill_in,
    item_id_refusal,
    item_refusal,
)

MAX_REFUSED_SHOWN = 100
MAX_RECEIPTS = 1_000


@dataclass(frozen=True, slots=True)
class AdmittedEvents:
    batch: EventBatch
    """The good events; none when all were refused."""
    results: list[EventResult]
    """One for each event of the request, in its order."""


def admit_events(request: PublishRequest, now_ms: int, names: EventNames) -> AdmittedEvents:
    """Judge a request. Raises InvalidInput when there is nothing in it to judge singly."""
    _check_count(len(request.events), MAX_EVENTS, "events")
    batch = make_batch(request.tenant, request.user_id)
    results = []
    for event in request.events:
        fill_in(event, now_ms, names)
        reason = event_refusal(event, now_ms)
        if not reason:
            batch.events.append(event)
        results.append(EventResult(event_id=event.event_id, accepted=not reason, reason=reason))
    check_size(batch)
    return AdmittedEvents(batch, results)


@dataclass(frozen=True, slots=True)
class AdmittedItems:
    tenant: str
    accepted: list[int]
    """Places in the request."""
    results: list[ItemResult]
    """One for each item of the request, in its order."""


def admit_items(tenant: str, items: Sequence[Item]) -> AdmittedItems:
    """Judge items to insert or replace. Raises InvalidInput as `admit_events`."""
    _check_count(len(items), MAX_ITEMS, "items")
    tenant = checked_tenant(tenant)
    return _admitted(tenant, [(item.item_id, item_refusal(item, tenant)) for item in items])


def admit_deletions(tenant: str, item_ids: Sequence[str]) -> AdmittedItems:
    """Judge items to delete. Raises InvalidInput as `admit_events`."""
    _check_count(len(item_ids), MAX_ITEMS, "item_ids")
    tenant = checked_tenant(tenant)
    return _admitted(tenant, [(item_id, item_id_refusal(item_id)) for item_id in item_ids])


def _admitted(tenant: str, judged: Sequence[tuple[str, str]]) -> AdmittedItems:
    return AdmittedItems(
        tenant,
        [place for place, (_, reason) in enumerate(judged) if not reason],
        [
            ItemResult(item_id=item_id, accepted=not reason, reason=reason)
            for item_id, reason in judged
        ],
    )


def _check_count(count: int, limit: int, what: str) -> None:
    if not 1 <= count <= limit:
        raise InvalidInput(f"the request has {count:,} {what}; send 1 to {limit:,}")


class StreamTally:
    """What became of a stream of requests, in bounded memory."""

    def __init__(self) -> None:
        self._response = PublishStreamResponse()
        self._receipts: OrderedDict[tuple[str, str], Receipt] = OrderedDict()

    def refuse(self, request_index: int, results: Sequence[EventResult]) -> None:
        """Count the refused events of a request."""
        for event_index, result in enumerate(results):
            if not result.accepted:
                self._refuse(request_index, event_index, result.reason)

    def refuse_whole(self, request_index: int, n_events: int, reason: str) -> None:
        """Count all events of a request that was refused as a whole, and show it once."""
        self._refuse(request_index, 0, reason)
        self._response.n_refused += max(0, n_events - 1)

    def accept(self, n_events: int, receipt: Receipt) -> None:
        """Count events that are durable."""
        self._response.n_accepted += n_events
        user = (receipt.tenant, receipt.user_id)
        self._receipts[user] = receipt
        self._receipts.move_to_end(user)
        if len(self._receipts) > MAX_RECEIPTS:
            self._receipts.popitem(last=False)

    def response(self) -> PublishStreamResponse:
        self._response.receipts.extend(self._receipts.values())
        return self._response

    def _refuse(self, request_index: int, event_index: int, reason: str) -> None:
        self._response.n_refused += 1
        if len(self._response.refused) < MAX_REFUSED_SHOWN:
            self._response.refused.append(
                RefusedEvent(request_index=request_index, event_index=event_index, reason=reason)
            )
