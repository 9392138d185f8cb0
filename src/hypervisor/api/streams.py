"""Server-sent events that end when the server stops or when their reader may not read any more.

An open stream never holds up a shutdown, and a login that has ended keeps no stream open for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from fastapi.sse import KEEPALIVE_COMMENT
from starlette.responses import StreamingResponse

T = TypeVar("T")

LOOK_AGAIN_SECONDS = 20.0
"""How often it is asked whether the reader may still read."""
LAST_WORDS_SECONDS = 0.5
"""How long after the stop of the server a stream may pass on what it already has."""
PING_SECONDS = 15.0


class EventStream(StreamingResponse):
    """Server-sent events that are formatted already. Many of them in one chunk cost little more than one."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes], status_code: int = 200) -> None:
        # The second header keeps nginx from gathering events before it passes them on.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(chunks, status_code, headers)


async def until_stopping(
    stopping: asyncio.Event,
    source: AsyncGenerator[T, None],
    may_go_on: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncIterator[T]:
    """Pass on what `source` yields until it ends, `stopping` is set or `may_go_on` says no; `source` is
    closed in any case.

    For routes with `response_class=EventStream`:

        return EventStream(until_stopping(services.stopping, with_pings(chunks()), still_member(...)))
    """
    step: asyncio.Future[T] | None = None
    stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    check = None if may_go_on is None else _timer(LOOK_AGAIN_SECONDS)
    end: asyncio.Future[None] | None = None
    async with aclosing(source):
        try:
            while True:
                step = step or asyncio.ensure_future(anext(source))
                await _first_of(step, stop, check)
                if stop.done():
                    # What was handed over before the stop is still passed on.
                    end = end or _timer(LAST_WORDS_SECONDS)
                    await _first_of(step, end)
                    if not step.done() or end.done():
                        return
                if may_go_on is not None and check is not None and check.done():
                    if not await may_go_on():
                        return
                    check = _timer(LOOK_AGAIN_SECONDS)
                if not step.done():
                    continue
                try:
                    item = step.result()
                except StopAsyncIteration:
                    return
                step = None
                yield item
        finally:
            for future in (stop, check, end, step):
                if future is not None:
                    await _cancel(future)


def _timer(seconds: float) -> asyncio.Future[None]:
    return asyncio.ensure_future(asyncio.sleep(seconds))


async def _first_of(*futures: asyncio.Future[Any] | None) -> None:
    await asyncio.wait([one for one in futures if one is not None], return_when=asyncio.FIRST_COMPLETED)


async def with_pings(source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Comments while nothing happens, so that no proxy takes the stream for dead."""
    step: asyncio.Future[bytes] | None = None
    async with aclosing(source):
        try:
            while True:
                step = step or asyncio.ensure_future(anext(source))
                done, _ = await asyncio.wait((step,), timeout=PING_SECONDS)
                if not done:
                    yield KEEPALIVE_COMMENT
                    continue
                try:
                    chunk = step.result()
                except StopAsyncIteration:
                    return
                step = None
                yield chunk
        finally:
            if step is not None:
                await _cancel(step)


async def _cancel(future: asyncio.Future[Any]) -> None:
    """End a future and wait for it, so that nothing of it runs on when the stream is closed."""
    future.cancel()
    with suppress(asyncio.CancelledError, StopAsyncIteration):
        await future
