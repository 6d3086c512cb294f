"""Several encoders as one: each user has his own, whose caches know him.

    request --> parts by the users' encoders (rendezvous hashing) --> answers, in the order asked
                      | one is down: its users go to their next encoder, at once

A user's encoder is the one that ranks first by the hash of user and address, among those that are
up and serve the model that is asked for. One that dies costs its users one refresh without caches;
the users of the others notice nothing. It is down until it says again which model it serves, which
it is asked every few seconds, and has its users back then.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import structlog
from prometheus_client import Counter as Metric

from protos.errors import DependencyDown, FreshetError, TooLate
from protos.rec.v1.encoder_pb2 import (
    EncodeItemsResponse,
    ItemText,
    RefreshRequest,
    RefreshResponse,
    UserResult,
    UserState,
)
from stream.encoder_client import Model

log = structlog.get_logger(__name__)

DOWN = (DependencyDown, TooLate)
"""One that hangs is as good as dead."""

FAILED_OVER = Metric(
    "freshet_stream_encoder_failed_over_total",
    "Refreshes that another encoder took over.",
    ["encoder"],
)


class Encoder(Protocol):
    """One of them. Raises the errors of protos/errors.py."""

    async def refresh(self, request: RefreshRequest) -> RefreshResponse: ...
    async def encode_items(self, items: Sequence[ItemText]) -> EncodeItemsResponse: ...
    async def model(self) -> Model: ...
    async def close(self) -> None: ...


@dataclass(slots=True)
class _Member:
    address: str
    encoder: Encoder
    model: Model | None = None
    """What it said last."""
    is_up: bool = True

    def failed(self, error: FreshetError) -> None:
        if self.is_up:
            log.warning("encoder_down", address=self.address, error=str(error))
        self.is_up, self.model = False, None

    def serves(self, model: Model) -> None:
        if not self.is_up:
            log.info("encoder_up", address=self.address)
        self.is_up, self.model = True, model

    def rank(self, name: bytes) -> bytes:
        """Rendezvous hashing (Thaler and Ravishankar 1998): the highest has the user."""
        return blake2b(self.address.encode() + b"\0" + name, digest_size=8).digest()


class EncoderPool:
    """An `Encoder` made of encoders, by address."""

    def __init__(self, encoders: dict[str, Encoder]) -> None:
        self._members = [_Member(address, encoder) for address, encoder in encoders.items()]

    async def model(self) -> Model:
        """Ask all; return the model that most serve, the newest of equals.

        Raises what the last one raised when none answers.
        """
        errors = [e for e in await asyncio.gather(*map(self._learn, self._members)) if e]
        counts = Counter(m.model for m in self._members if m.model is not None)
        if not counts:
            raise errors[-1]
        return max(counts, key=lambda model: (counts[model], model.model_sequence))

    async def _learn(self, member: _Member) -> FreshetError | None:
        try:
            member.serves(await member.encoder.model())
        except FreshetError as error:
            member.failed(error)
            return error
        return None

    async def refresh(self, request: RefreshRequest) -> RefreshResponse:
        """Have each user refreshed by his encoder, or by the next while that one is down.

        Raises what an encoder raised when it is not down, or when none is left to ask.
        """
        results: list[UserResult | None] = [None] * len(request.users)
        places = list(range(len(request.users)))
        failed: dict[str, FreshetError] = {}
        while places:
            parts: dict[str, list[int]] = defaultdict(list)
            for place in places:
                parts[self._owner(request.users[place], failed).address].append(place)
            asked = [member for member in self._members if member.address in parts]
            answers = await asyncio.gather(
                *(self._ask(member, request, parts[member.address], failed) for member in asked)
            )
            places = []
            for member, answer in zip(asked, answers, strict=True):
                if answer is None:
                    places += parts[member.address]
                    continue
                for place, result in zip(parts[member.address], answer.results, strict=True):
                    results[place] = result
        return RefreshResponse(results=[result for result in results if result is not None])

    async def _ask(
        self,
        member: _Member,
        request: RefreshRequest,
        part: Sequence[int],
        failed: dict[str, FreshetError],
    ) -> RefreshResponse | None:
        """Return the answers for a part of the users; None when the encoder has failed."""
        own = request
        if len(part) < len(request.users):
            users = [request.users[place] for place in part]
            own = RefreshRequest(users=users, items=request.items, item_gone=request.item_gone)
        try:
            response = await member.encoder.refresh(own)
        except DOWN as error:
            member.failed(error)
            failed[member.address] = error
            FAILED_OVER.labels(member.address).inc(len(part))
            return None
        if len(response.results) != len(part):
            n_results = len(response.results)
            raise FreshetError(f"the encoder gave {n_results} results for {len(part)} users")
        return response

    async def encode_items(self, items: Sequence[ItemText]) -> EncodeItemsResponse:
        """Have any encoder encode items. Raises as `refresh`."""
        failed: dict[str, FreshetError] = {}
        while True:
            member = self._able(failed)[0]
            try:
                return await member.encoder.encode_items(items)
            except DOWN as error:
                member.failed(error)
                failed[member.address] = error

    def _owner(self, user: UserState, failed: Mapping[str, FreshetError]) -> _Member:
        name = f"{user.tenant}/{user.user_id}".encode()
        able = self._able(failed)
        current = [m for m in able if m.model and m.model.model_version == user.model_version]
        return max(current or able, key=lambda member: member.rank(name))

    def _able(self, failed: Mapping[str, FreshetError]) -> list[_Member]:
        """Return whom to ask: those that are up, else those that were down and may be back."""
        left = [member for member in self._members if member.address not in failed]
        if not left:
            raise list(failed.values())[-1]
        return [member for member in left if member.is_up] or left

    async def close(self) -> None:
        await asyncio.gather(*(member.encoder.close() for member in self._members))


def _serves(member: _Member, model_version: str) -> bool:
    return member.model is None or member.model.model_version == model_version
