"""Server-sent events that end when the server stops or when their reader may not read any more.

An open stream never holds up a shutdown, and a login that has ended keeps no stream open for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from hypervisor.api.container import Container

T = TypeVar("T")

LOOK_AGAIN_SECONDS = 20.0
"""How often it is asked whether the reader may still read."""
LAST_WORDS_SECONDS = 0.5
"""How long after the stop of the server a stream may pass on what it already has."""


async def until_stopping(
    container: Container,
    source: AsyncGenerator[T, None],
    may_go_on: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncIterator[T]:
    """Pass on what `source` yields until it ends, the server stops or `may_go_on` says no; `source` is
    closed in any case.

    For routes with `response_class=EventSourceResponse`:

        async for row in until_stopping(container, rows(), may_go_on=still_member(...)):
            yield ServerSentEvent(data=row, id=str(row.id), event=row.type)
    """
    now = asyncio.get_running_loop().time
    stopping = asyncio.ensure_future(container.stopping.wait())
    step: asyncio.Future[T] | None = None
    look_at = now() + LOOK_AGAIN_SECONDS
    until: float | None = None
    async with aclosing(source):
        try:
            while True:
                step = step or asyncio.ensure_future(anext(source))
                left = None if may_go_on is None else max(0.0, look_at - now())
                await asyncio.wait((step, stopping), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    # What was handed over before the stop is still passed on.
                    until = until or now() + LAST_WORDS_SECONDS
                    await asyncio.wait((step,), timeout=max(0.0, until - now()))
                    if not step.done() or now() >= until:
                        return
                if may_go_on is not None and now() >= look_at:
                    if not await may_go_on():
                        return
                    look_at = now() + LOOK_AGAIN_SECONDS
                if not step.done():
                    continue
                try:
                    item = step.result()
                except StopAsyncIteration:
                    return
                step = None
                yield item
        finally:
            await _cancel(stopping)
            if step is not None:
                await _cancel(step)


async def _cancel(future: asyncio.Future[T]) -> None:
    """End a future and wait for it, so that nothing of it runs on when the stream is closed."""
    future.cancel()
    with suppress(asyncio.CancelledError, StopAsyncIteration):
        await future
