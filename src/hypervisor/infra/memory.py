"""Freed memory goes back to the system, so that a server is as small after a burst of work as before it.

The C library keeps what was freed for its own next use, and keeps it apart for each thread. glibc can be told
to do neither; other libraries have no such calls, and are left alone.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

_EVERY_SECONDS: Final = 60.0
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2
"""The interpreter's lock lets few threads allocate at a time; glibc would give each an arena of its own."""


@asynccontextmanager
async def sparing_memory() -> AsyncIterator[None]:
    """Keep this process small while this lasts."""
    _set_arenas()
    task = asyncio.create_task(_give_back_for_ever(), name="memory")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def give_back() -> bool:
    """Return freed memory to the system; whether there was any. May take some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))


async def _give_back_for_ever() -> None:
    while True:
        await asyncio.sleep(_EVERY_SECONDS)
        await asyncio.to_thread(give_back)


def _set_arenas() -> None:
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_ARENA_MAX, _ARENAS)
