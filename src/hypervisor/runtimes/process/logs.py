"""The output of one instance as one stream of lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hypervisor.runtimes.process.log_files import CHUNK, LogFiles

LONGEST_LINE = 1024 * 1024
"""Bytes after which a line without a newline is returned in pieces."""

FOLLOW_INTERVAL = 0.2


async def read_lines(
    log: LogFiles, *, tail: int | None, follow: bool, finished: asyncio.Event
) -> AsyncIterator[str]:
    """The lines of a log, oldest first.

    With `follow` the iterator ends when `finished` is set and all lines were read.
    """
    begin, end = await asyncio.to_thread(log.bounds)
    position = begin if tail is None else await asyncio.to_thread(log.tail, tail)
    rest = b""
    while follow or position < end:
        was_finished = finished.is_set()
        data, position = await asyncio.to_thread(log.read, position, CHUNK)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
        if len(rest) > LONGEST_LINE:
            yield rest.decode(errors="replace")
            rest = b""
        if not data:
            if was_finished or not follow:
                break
            await _wait(finished, FOLLOW_INTERVAL)
    if rest:
        yield rest.decode(errors="replace")


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
