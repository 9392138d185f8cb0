"""Server-sent events that end when the server stops or when their reader may not read any more.

An open stream never holds up a shutdown, and a login that has ended keeps no stream open for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from fastapi.sse import KEEPALIVE_COMMENT
from starlette.responses import StreamingResponse

from hypervisor.api.services import AppServices

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
    services: AppServices,
    source: AsyncGenerator[T, None],
    may_go_on: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncIterator[T]:
    """Pass on what `source` yields until it ends, the server stops or `may_go_on` says no; `source` is
    closed in any case.

    For routes with `response_class=EventStream`:

        return EventStream(until_stopping(services, with_pings(chunks()), may_go_on=still_member(...)))
    """
    now = asyncio.get_running_loop().time
    stopping = asyncio.ensure_future(services.stopping.wait())
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


async def _cancel(future: asyncio.Future[T]) -> None:
    """End a future and wait for it, so that nothing of it runs on when the stream is closed."""
    future.cancel()
    with suppress(asyncio.CancelledError, StopAsyncIteration):
        await future
