"""gRPC face of the encoder: decode the request, await the worker, encode the reply."""

import time
from typing import Protocol

import grpc.aio

from encoder.compute import EncodedItem, NamedText
from encoder.sessions import SessionStep
from encoder.worker import Worker
from protos.actions import declared_actions
from protos.errors import InvalidInput, TooLate
from protos.keys import checked_id, checked_tenant, text_digest
from protos.rec.v1 import encoder_pb2 as pb
from protos.rec.v1 import encoder_pb2_grpc
from protos.rec.v1.interests_pb2 import (
    TIER_LIGHT,
    TIER_REFINED,
    TIER_UNSPECIFIED,
)
from protos.rec.v1.items_pb2 import DTYPE_F32, Embedding, ItemCodes

MAX_USERS = 256
MAX_ITEMS = 1000
MAX_SESSION_EVENTS = 8192
MAX_TEXT_BYTES = 16 * 1024


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    def __init__(self, worker: Worker, *, model_sequence: int, device: str) -> None:
        self._worker = worker
        self._model_sequence = model_sequence
        self._device = device

    async def Refresh(
        self,
        request: pb.RefreshRequest,
        context: grpc.aio.ServicerContext[pb.RefreshRequest, pb.RefreshResponse],
    ) -> pb.RefreshResponse:
        _check_size("users", len(request.users), MAX_USERS)
        if len(request.items) > MAX_ITEMS:
            raise InvalidInput(f"items has {len(request.items)} entries; send at most {MAX_ITEMS}")
        texts = [_named(item) for item in request.items]
        tenants = {checked_tenant(text.key[0]) for text in texts}
        tenants |= {user.tenant or checked_tenant("") for user in request.users}
        gone = frozenset(
            (tenant, item.item_id, item.text_digest)
            for tenant in tenants
            for item in request.item_gone
        )
        results = await self._worker.refresh(request.users, texts, gone, _deadline(context))
        return pb.RefreshResponse(results=results)

    async def EncodeItems(
        self,
        request: pb.EncodeItemsRequest,
        context: grpc.aio.ServicerContext[pb.EncodeItemsRequest, pb.EncodeItemsResponse],
    ) -> pb.EncodeItemsResponse:
        _check_size("items", len(request.items), MAX_ITEMS)
        reasons = [_unencodable(item) for item in request.items]
        good = [_named(i) for i, why in zip(request.items, reasons, strict=True) if not why]
        encoded = iter(await self._worker.encode(good, _deadline(context)))
        versions = self._worker.versions
        return pb.EncodeItemsResponse(
            model_version=versions.model,
            codebook_version=versions.codebook,
            items=[
                pb.EncodedItem(item_id=item.item_id, reason=why)
                if why
                else self._item(item, next(encoded))
                for item, why in zip(request.items, reasons, strict=True)
            ],
        )

    async def EncodeSession(
        self,
        request: pb.EncodeSessionRequest,
        context: grpc.aio.ServicerContext[pb.EncodeSessionRequest, pb.EncodeSessionResponse],
    ) -> pb.EncodeSessionResponse:
        _check_size("events", len(request.events), MAX_SESSION_EVENTS)
        deadline = _deadline(context)
        tenant = checked_tenant(request.tenant)
        actions = [_action(place, event) for place, event in enumerate(request.events)]
        texts = {
            event.item_id: NamedText((tenant, event.item_id, text_digest(event.text)), event.text)
            for event in request.events
            if event.text
        }
        names = {(tenant, event.item_id) for event in request.events}
        known = dict(await self._worker.newest_items(sorted(names)))
        unknown = [text for item_id, text in texts.items() if (tenant, item_id) not in known]
        for text, item in zip(unknown, await self._worker.encode(unknown, deadline), strict=True):
            known[text.key[:2]] = item.known
        steps = [
            SessionStep(known.get((tenant, event.item_id)), action, event.event_time_ms)
            for event, action in zip(request.events, actions, strict=True)
        ]
        refine = _is_refined(request.tier)
        interests = await self._worker.session(steps, refine=refine, deadline=deadline)
        return pb.EncodeSessionResponse(
            interests=interests,
            unknown_item_ids=sorted(item for _, item in names - set(known)),
        )

    async def GetModelInfo(
        self,
        request: pb.GetModelInfoRequest,
        context: grpc.aio.ServicerContext[pb.GetModelInfoRequest, pb.GetModelInfoResponse],
    ) -> pb.GetModelInfoResponse:
        config, versions = self._worker.bundle.config, self._worker.versions
        return pb.GetModelInfoResponse(
            model_version=versions.model,
            codebook_version=versions.codebook,
            model_sequence=self._model_sequence,
            dim=config.dim,
            n_interests=config.n_interests,
            n_levels=config.n_levels,
            segment_size=config.segment_size,
            recent_size=config.recent_size,
            n_blocks=config.n_blocks,
            block_bytes=config.block_bytes,
            block_depth=config.block_depth,
            device=self._device,
        )

    def _item(self, item: pb.ItemText, encoded: EncodedItem) -> pb.EncodedItem:
        versions = self._worker.versions
        return pb.EncodedItem(
            item_id=item.item_id,
            text_digest=text_digest(item.text),
            embedding=Embedding(
                model_version=versions.model,
                dtype=DTYPE_F32,
                vector=encoded.embedding.astype("<f4").tobytes(),
                dim=len(encoded.embedding),
            ),
            codes=ItemCodes(codebook_version=versions.codebook, codes=encoded.known.codes),
        )


def _check_size(field: str, n_entries: int, most: int) -> None:
    if not 1 <= n_entries <= most:
        raise InvalidInput(f"{field} has {n_entries} entries; send 1 to {most}")


class _Call(Protocol):
    def time_remaining(self) -> float | None: ...


def _deadline(context: _Call) -> float | None:
    """Return when the caller stops waiting, on the monotonic clock. Raises TooLate."""
    left_s = context.time_remaining()
    if left_s is None:
        return None
    if left_s <= 0:
        raise TooLate("the deadline had passed when the call arrived")
    return time.monotonic() + left_s


def _named(item: pb.ItemText) -> NamedText:
    why = _unencodable(item)
    if why:
        raise InvalidInput(f"items: {why}")
    return NamedText((checked_tenant(item.tenant), item.item_id, text_digest(item.text)), item.text)


def _unencodable(item: pb.ItemText) -> str:
    """Return why an item can have no vector, or ""."""
    try:
        checked_tenant(item.tenant)
        checked_id(item.item_id, "item_id")
    except InvalidInput as error:
        return str(error)
    if not item.text.strip():
        return f"item {item.item_id!r} has no text; give it a title"
    if len(item.text.encode()) > MAX_TEXT_BYTES:
        return f"the text of item {item.item_id!r} has more than {MAX_TEXT_BYTES} bytes"
    return ""


def _action(place: int, event: pb.SessionEvent) -> int:
    """Return the code of an event's action. Raises InvalidInput naming the event."""
    checked_id(event.item_id, f"events[{place}].item_id")
    if len(event.text.encode()) > MAX_TEXT_BYTES:
        raise InvalidInput(f"events[{place}].text has more than {MAX_TEXT_BYTES} bytes")
    action = declared_actions().get(event.action)
    if action is None or not action.history:
        known = ", ".join(sorted(a.name for a in declared_actions().values() if a.history))
        raise InvalidInput(f"events[{place}].action is {event.action!r}; give one of {known}")
    return action.code


def _is_refined(tier: int) -> bool:
    if tier not in (TIER_UNSPECIFIED, TIER_LIGHT, TIER_REFINED):
        raise InvalidInput(f"tier is {tier}; give LIGHT or REFINED")
    return tier != TIER_LIGHT
