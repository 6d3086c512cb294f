"""Callers of an encoder that send prebuilt requests, each the next one when the one before is
answered: this side shall cost little, so bytes go out and bytes come in."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio
import numpy as np

from infra.channels import aio_channel
from protos.errors import FreshetError
from protos.rec.v1.encoder_pb2 import RESULT_STATUS_OK, RefreshResponse

METHOD = "/rec.v1.EncoderService/Refresh"
TIMEOUT_S = 60.0

Turns = Sequence[Sequence[bytes]]
"""By caller, then by turn: serialised requests."""


@dataclass(frozen=True, slots=True)
class Answered:
    n_users: int
    seconds: float
    latencies_s: Sequence[float]
    """Of each request."""

    @property
    def users_per_s(self) -> float:
        return self.n_users / self.seconds

    @property
    def p99_ms(self) -> float:
        return 1000 * float(np.quantile(self.latencies_s, 0.99))


async def answered(address: str, callers: Turns) -> Answered:
    """Let all callers call until they are done. Raises FreshetError when a user is not served."""
    latencies: list[float] = []
    async with aio_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

        async def go(turns: Sequence[bytes]) -> list[bytes]:
            answers = []
            for request in turns:
                start = time.perf_counter()
                answers.append(await call(request, timeout=TIMEOUT_S))
                latencies.append(time.perf_counter() - start)
            return answers

        start = time.perf_counter()
        answers = await asyncio.gather(*map(go, callers))
        seconds = time.perf_counter() - start
    results = [
        result
        for of_caller in answers
        for answer in of_caller
        for result in RefreshResponse.FromString(answer).results
    ]
    wrong = [result for result in results if result.status != RESULT_STATUS_OK]
    if wrong:
        raise FreshetError(f"{len(wrong)} of {len(results)} users were not served: {wrong[0]}")
    return Answered(len(results), seconds, latencies)
