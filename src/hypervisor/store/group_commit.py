"""Group commit: concurrent questions share one transaction or one query.

Requests that arrive while a transaction runs share the next one and its cost (DeWitt et al., "Implementation
Techniques for Main Memory Database Systems", 1984).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Generic, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")

LARGEST_GROUP = 64
LANES = 4
"""Maximum number of concurrent groups of one kind."""
PATIENCE_SECONDS = 0.02
"""Maximum wait for the previous group, which may be large or wait for a lock."""
COMPANY_SECONDS = 0.003
"""Maximum wait of a group for as many questions as the last group had."""


class GroupCommit(Generic[K, V]):
    """Passes questions to `work` in groups, and returns each result to its caller.

    There is one for each kind of question, created at server start; see `Database.read_group` and
    `Database.write_group`. `name` is for logs and tasks.

    If no group runs, a question starts one at once; questions that arrive meanwhile form the next group. A
    single question never waits. After a large group the next one waits briefly for as many questions, because
    callers tend to return.

    `work` returns a result or an error for each question, in their order. If it raises, `spoilt` decides
    whether one question may have caused the error; then each question runs alone.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[K]], Awaitable[Sequence[V | Exception]]],
        spoilt: Callable[[Exception], bool],
    ) -> None:
        self.name = name
        self._work = work
        self._spoilt = spoilt
        self._waiting: deque[tuple[K, asyncio.Future[V]]] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._company = 1
        """Number of questions at the end of the last group."""
        self._complete = asyncio.Event()

    async def ask(self, question: K) -> V:
        """The result of `work`; raises its error. A cancelled caller does not stop a running group."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if len(self._waiting) >= self._company:
            self._complete.set()
        if not self._lanes:
            self._open_lane()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._open_another)
        return await answer

    async def close(self) -> None:
        """Cancel running groups and waiting callers."""
        lanes = list(self._lanes)
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        for _, answer in self._waiting:
            answer.cancel()

    def _open_another(self) -> None:
        if self._waiting and len(self._lanes) < LANES:
            self._open_lane()

    def _open_lane(self) -> None:
        # A new context: context variables of the first request must not leak into the others.
        self._lanes.add(asyncio.create_task(self._serve_all(), name=self.name, context=Context()))

    async def _serve_all(self) -> None:
        try:
            while self._waiting:
                await self._wait_for_company()
                if group := self._next_group():
                    await self._serve(group)
                    self._company = min(LARGEST_GROUP, len(group) + len(self._waiting))
        finally:
            # Here, not in a callback one turn later: a caller in between would wait for an ended lane.
            self._lanes.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _wait_for_company(self) -> None:
        if len(self._waiting) >= self._company:
            return
        self._complete.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(COMPANY_SECONDS):
                await self._complete.wait()

    def _next_group(self) -> list[tuple[K, asyncio.Future[V]]]:
        group: list[tuple[K, asyncio.Future[V]]] = []
        while self._waiting and len(group) < LARGEST_GROUP:
            question, answer = self._waiting.popleft()
            if not answer.cancelled():
                group.append((question, answer))
        return group

    async def _serve(self, group: Sequence[tuple[K, asyncio.Future[V]]]) -> None:
        try:
            answers = await self._work([question for question, _ in group])
        except asyncio.CancelledError:
            for _, answer in group:
                answer.cancel()
            raise
        except Exception as error:
            if len(group) > 1 and self._spoilt(error):
                await asyncio.gather(*(self._serve([one]) for one in group))
                return
            answers = [error] * len(group)
        for (_, answer), found in zip(group, answers, strict=True):
            _give(answer, found)


def _give(answer: asyncio.Future[V], found: V | Exception) -> None:
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)
