"""The output of one instance as one stream of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hypervisor.runtimes.process.log_files import CHUNK, LogFiles, Position
from hypervisor.runtimes.protocol import LogChunk

FOLLOW_INTERVAL = 0.2


async def read_output(
    log: LogFiles, *, tail: int | None, after: str | None = None, follow: bool, finished: asyncio.Event
) -> AsyncIterator[LogChunk]:
    """The bytes of a log as in `Runtime.logs`. Chunks end at the end of a line, unless it is very long.

    With `follow` the iterator ends when `finished` is set and all bytes were read.
    """
    position, end = await asyncio.to_thread(_bounds, log, tail, after)
    yield LogChunk(b"", str(position))
    while follow or position < end:
        was_finished = finished.is_set()
        data, following = await asyncio.to_thread(log.read, position, CHUNK)
        if data:
            size = data.rfind(b"\n") + 1 or len(data)
            position = Position(following.file, following.offset - len(data) + size)
            yield LogChunk(data[:size], str(position))
        elif was_finished or not follow:
            return
        else:
            await _wait(finished, FOLLOW_INTERVAL)


def _bounds(log: LogFiles, tail: int | None, after: str | None) -> tuple[Position, Position]:
    """Where the output begins, and the end of the log."""
    begin, end = log.bounds()
    if after is None:
        return (begin if tail is None else log.tail(tail)), end
    return min(max(begin, Position.parse(after) or begin), end), end


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
