"""Work that costs hardly more for many than for one, done at once for all who ask at the same time.

Group commit is the classic case: what one transaction costs is shared by whoever came while the last one was
under way (DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984).
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
"""Groups of one kind that are worked on at the same time, at most."""
PATIENCE_SECONDS = 0.02
"""How long a group waits for the one before it, which may be large or wait for a lock."""
COMPANY_SECONDS = 0.003
"""How long a group waits for those who came together lately, before it begins without them."""


class GroupCommit(Generic[K, V]):
    """Gives questions to `work` in groups, and each answer to whom it belongs. `name` is for logs and tasks.

    There is one for each kind of question, made at the start of the server; see `Database.read_group` and
    `Database.write_group`.

    A question is worked on at once where nothing else is, and those that come meanwhile are the next group.
    A lone one never waits. Where many came together lately, the next group waits a moment for as many:
    whoever got an answer tends to ask again.

    `work` returns an answer or the error of each question, in their order. Where it raises, `spoilt` tells
    whether that may be the fault of one of the group: then each is worked on alone.
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
        """How many had been asking when the last group was served."""
        self._complete = asyncio.Event()

    async def ask(self, question: K) -> V:
        """The answer, or the error, of `work`. Who gives up waiting stops nothing that has begun."""
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
        """End what is under way; whoever still waits is cancelled."""
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
        # Of nobody's own: what is bound to the request that came first must not stick to the others.
        self._lanes.add(asyncio.create_task(self._serve_all(), name=self.name, context=Context()))

    async def _serve_all(self) -> None:
        try:
            while self._waiting:
                await self._wait_for_company()
                if group := self._next_group():
                    await self._serve(group)
                    self._company = min(LARGEST_GROUP, len(group) + len(self._waiting))
        finally:
            # At once, not by a callback a turn later: who asks in between would wait for an ended lane.
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
