"""Server-sent events that end when the server stops, or when the reader loses access.

An open stream never delays a shutdown. A login that has ended keeps a stream open for at most
`ACCESS_CHECK_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from fastapi.sse import KEEPALIVE_COMMENT
from starlette.responses import StreamingResponse

T = TypeVar("T")

ACCESS_CHECK_SECONDS = 20.0
"""Time between two checks of the reader's access."""
DRAIN_SECONDS = 0.5
"""Time after the server's stop in which a stream may still send pending events."""
PING_SECONDS = 15.0
"""Silence after which a stream sends a comment."""


class EventStream(StreamingResponse):
    """A response with formatted server-sent events. A chunk may hold many events."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes], status_code: int = 200) -> None:
        # The second header keeps nginx from buffering events.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(chunks, status_code, headers)


async def until_stopping(
    stopping: asyncio.Event,
    source: AsyncGenerator[T, None],
    has_access: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncIterator[T]:
    """Yield the items of `source` until it ends, `stopping` is set, or `has_access` returns False.

    `source` is closed in any case.

    For routes with `response_class=EventStream`:

        return EventStream(until_stopping(services.stopping, with_pings(chunks()), still_member(...)))
    """
    step: asyncio.Future[T] | None = None
    stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    check = None if has_access is None else _timer(ACCESS_CHECK_SECONDS)
    drain: asyncio.Future[None] | None = None
    async with aclosing(source):
        try:
            while True:
                step = step or asyncio.ensure_future(anext(source))
                await _first_of(step, stop, check)
                if stop.done():
                    # Items from before the stop are still sent.
                    drain = drain or _timer(DRAIN_SECONDS)
                    await _first_of(step, drain)
                    if not step.done() or drain.done():
                        return
                if has_access is not None and check is not None and check.done():
                    if not await has_access():
                        return
                    check = _timer(ACCESS_CHECK_SECONDS)
                if not step.done():
                    continue
                try:
                    item = step.result()
                except StopAsyncIteration:
                    return
                step = None
                yield item
        finally:
            for future in (stop, check, drain, step):
                if future is not None:
                    await _cancel(future)


def _timer(seconds: float) -> asyncio.Future[None]:
    return asyncio.ensure_future(asyncio.sleep(seconds))


async def _first_of(*futures: asyncio.Future[Any] | None) -> None:
    pending = [future for future in futures if future is not None]
    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


async def with_pings(source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield comments during silence, so that no proxy closes the stream as idle."""
    async with aclosing(with_silences(source, PING_SECONDS)) as chunks:
        async for chunk in chunks:
            yield KEEPALIVE_COMMENT if chunk is None else chunk


async def with_silences(source: AsyncGenerator[T, None], seconds: float) -> AsyncGenerator[T | None, None]:
    """Yield the items of `source`, and None whenever there was none for `seconds`. `source` is closed."""
    step: asyncio.Future[T] | None = None
    async with aclosing(source):
        try:
            while True:
                step = step or asyncio.ensure_future(anext(source))
                done, _ = await asyncio.wait((step,), timeout=seconds)
                if not done:
                    yield None
                    continue
                try:
                    item = step.result()
                except StopAsyncIteration:
                    return
                step = None
                yield item
        finally:
            if step is not None:
                await _cancel(step)


async def _cancel(future: asyncio.Future[Any]) -> None:
    """Cancel a future and wait for it, so that it does not run after the stream is closed."""
    future.cancel()
    with suppress(asyncio.CancelledError, StopAsyncIteration):
        await future
