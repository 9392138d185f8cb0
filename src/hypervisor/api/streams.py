"""Server-sent events that end when the server stops, so that an open stream never holds up a shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import TypeVar

from hypervisor.api.container import Container

T = TypeVar("T")


async def until_stopping(container: Container, source: AsyncGenerator[T, None]) -> AsyncIterator[T]:
    """Pass on what `source` yields until it ends or the server stops; `source` is closed in either case.

    For routes with `response_class=EventSourceResponse`:

        async for row in until_stopping(container, rows()):
            yield ServerSentEvent(data=row, id=str(row.id), event=row.type)
    """
    stopping = asyncio.ensure_future(container.stopping.wait())
    step: asyncio.Future[T] | None = None
    async with aclosing(source):
        try:
            while True:
                step = asyncio.ensure_future(anext(source))
                await asyncio.wait((step, stopping), return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    return
                try:
                    item = step.result()
                except StopAsyncIteration:
                    return
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
