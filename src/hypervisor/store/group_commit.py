"""Group commit: concurrent requests share one transaction or one query.

Requests that arrive during a transaction share the next one and its cost (DeWitt et al., "Implementation
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
MAX_QUEUE_SECONDS = 0.02
"""Maximum wait for the previous group, which may be large or wait for a lock."""
MAX_FILL_SECONDS = 0.003
"""Maximum wait of a group to reach the size of the last group."""


class GroupCommit(Generic[K, V]):
    """Passes requests to `work` in groups, and returns each result to its caller.

    There is one for each kind of request, created at server start; see `Database.read_group` and
    `Database.write_group`. `name` is for logs and tasks.

    If no group runs, a request starts one at once. Requests that arrive meanwhile form the next group. A
    single request never waits. After a large group the next one waits briefly for as many requests, because
    callers tend to return.

    `work` returns a result or an error for each request, in their order. If it raises, `retry_alone` decides
    whether one request may have caused the error; then each request runs alone.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[K]], Awaitable[Sequence[V | Exception]]],
        retry_alone: Callable[[Exception], bool],
    ) -> None:
        self.name = name
        self._work = work
        self._retry_alone = retry_alone
        self._waiting: deque[tuple[K, asyncio.Future[V]]] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._expected_size = 1
        """Number of requests at the end of the last group."""
        self._complete = asyncio.Event()

    async def submit(self, request: K) -> V:
        """The result of `work`; raises its error. A cancelled caller does not stop a running group."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if len(self._waiting) >= self._expected_size:
            self._complete.set()
        if not self._lanes:
            self._open_lane()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(MAX_QUEUE_SECONDS, self._open_another)
        return await future

    async def close(self) -> None:
        """Cancel running groups and waiting callers."""
        lanes = list(self._lanes)
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        for _, future in self._waiting:
            future.cancel()

    def _open_another(self) -> None:
        if self._waiting and len(self._lanes) < LANES:
            self._open_lane()

    def _open_lane(self) -> None:
        # A new context: context variables of the first request must not leak into the others.
        self._lanes.add(asyncio.create_task(self._serve_all(), name=self.name, context=Context()))

    async def _serve_all(self) -> None:
        try:
            while self._waiting:
                await self._wait_for_more()
                if group := self._next_group():
                    await self._serve(group)
                    self._expected_size = min(LARGEST_GROUP, len(group) + len(self._waiting))
        finally:
            # Here, not in a callback one turn later: a caller in between would wait for an ended lane.
            self._lanes.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _wait_for_more(self) -> None:
        if len(self._waiting) >= self._expected_size:
            return
        self._complete.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_FILL_SECONDS):
                await self._complete.wait()

    def _next_group(self) -> list[tuple[K, asyncio.Future[V]]]:
        group: list[tuple[K, asyncio.Future[V]]] = []
        while self._waiting and len(group) < LARGEST_GROUP:
            request, future = self._waiting.popleft()
            if not future.cancelled():
                group.append((request, future))
        return group

    async def _serve(self, group: Sequence[tuple[K, asyncio.Future[V]]]) -> None:
        try:
            results = await self._work([request for request, _ in group])
        except asyncio.CancelledError:
            for _, future in group:
                future.cancel()
            raise
        except Exception as error:
            if len(group) > 1 and self._retry_alone(error):
                await asyncio.gather(*(self._serve([one]) for one in group))
                return
            results = [error] * len(group)
        for (_, future), result in zip(group, results, strict=True):
            _resolve(future, result)


def _resolve(future: asyncio.Future[V], result: V | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
