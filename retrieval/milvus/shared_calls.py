"""Callers who ask the same kind of question at the same time share one call.

While no call is under way, a question goes at once. Else it waits until none is, or until as many
wait as share a call that is. A call takes no more than its part of all who ask, unless they are
few. So the callers of a busy time fall into groups of one size, and while one group's call is under
way, another's answers are made use of. Were each call to take whoever waits at once, all but one
would share one call, and the last would have the next for himself, at nearly the same cost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

FEW = 4
"""Questions that are not worth two calls."""

Kind = TypeVar("Kind", bound=Hashable)
Row = TypeVar("Row")
Out = TypeVar("Out")


@dataclass(slots=True)
class _Question(Generic[Kind, Row, Out]):
    kind: Kind
    rows: Sequence[Row]
    answer: asyncio.Future[Sequence[Out]]


class SharedCalls(Generic[Kind, Row, Out]):
    """Make it inside the running loop. Its callers are bounded in number by whoever admits them."""

    def __init__(
        self,
        call: Callable[[Kind, Sequence[Row]], Awaitable[Sequence[Out]]],
        *,
        max_calls: int,
        max_rows: int,
    ) -> None:
        """
        Args:
            call: answers rows of one kind, in their order; ends by itself in bounded time. What it
                raises, all who share it raise.
            max_calls: under way at once.
            max_rows: of one call; a single question may exceed it.
        """
        self._call, self._max_calls, self._max_rows = call, max_calls, max_rows
        self._waiting: deque[_Question[Kind, Row, Out]] = deque()
        self._n_away = 0
        """Questions of the calls under way."""
        self._calls: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def ask(self, kind: Kind, rows: Sequence[Row]) -> Sequence[Out]:
        """Return an answer for each row. Cancel it to give up; the call goes on for the others."""
        answer: asyncio.Future[Sequence[Out]] = self._loop.create_future()
        self._waiting.append(_Question(kind, rows, answer))
        self._go_on()
        return await answer

    async def close(self) -> None:
        """Cancel what is under way; who waits is cancelled too."""
        for question in self._waiting:
            question.answer.cancel()
        self._waiting.clear()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _go_on(self) -> None:
        while self._waiting and len(self._calls) < self._max_calls:
            n_waiting = len(self._waiting)
            if n_waiting * len(self._calls) < self._n_away:
                return
            part = -(-(n_waiting + self._n_away) // self._max_calls)
            batch = self._take(max(FEW, part))
            if batch:
                call = self._loop.create_task(self._run(batch))
                self._n_away += len(batch)
                self._calls.add(call)
                call.add_done_callback(partial(self._ended, len(batch)))

    def _ended(self, n_questions: int, call: asyncio.Task[None]) -> None:
        self._n_away -= n_questions
        self._calls.discard(call)
        self._go_on()

    def _take(self, n_most: int) -> list[_Question[Kind, Row, Out]]:
        """Pop the oldest question and others of its kind, but for those nobody waits for."""
        batch: list[_Question[Kind, Row, Out]] = []
        left: deque[_Question[Kind, Row, Out]] = deque()
        n_rows = 0
        for question in self._waiting:
            if question.answer.done():
                continue
            fits = len(batch) < n_most and n_rows + len(question.rows) <= self._max_rows
            if not batch or (question.kind == batch[0].kind and fits):
                batch.append(question)
                n_rows += len(question.rows)
            else:
                left.append(question)
        self._waiting = left
        return batch

    async def _run(self, batch: Sequence[_Question[Kind, Row, Out]]) -> None:
        rows = [row for question in batch for row in question.rows]
        try:
            outs = await self._call(batch[0].kind, rows)
        except BaseException as error:
            for question in batch:
                if question.answer.done():
                    continue
                if isinstance(error, Exception):
                    question.answer.set_exception(error)
                else:
                    question.answer.cancel()
            if not isinstance(error, Exception):
                raise
            return
        first = 0
        for question in batch:
            if not question.answer.done():
                question.answer.set_result(outs[first : first + len(question.rows)])
            first += len(question.rows)
