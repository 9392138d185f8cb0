"""The output of one instance as one stream of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hypervisor.runtimes.process.log_files import CHUNK, LogFiles

FOLLOW_INTERVAL = 0.2


async def read_output(
    log: LogFiles, *, tail: int | None, follow: bool, finished: asyncio.Event
) -> AsyncIterator[bytes]:
    """The bytes of a log, oldest first.

    With `follow` the iterator ends when `finished` is set and all bytes were read.
    """
    begin, end = await asyncio.to_thread(log.bounds)
    position = begin if tail is None else await asyncio.to_thread(log.tail, tail)
    while follow or position < end:
        was_finished = finished.is_set()
        data, position = await asyncio.to_thread(log.read, position, CHUNK)
        if data:
            yield data
        elif was_finished or not follow:
            return
        else:
            await _wait(finished, FOLLOW_INTERVAL)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
