"""Return of freed memory to the system, so that a burst of work does not leave a large process.

The C library keeps freed memory for its next use, separately for each thread. glibc has calls to change both;
with other libraries nothing happens.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

_INTERVAL_SECONDS: Final = 60.0
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2
"""The interpreter's lock lets few threads allocate at a time; by default glibc gives each thread an arena."""


@asynccontextmanager
async def sparing_memory() -> AsyncIterator[None]:
    """Limit the arenas of this process, and return freed memory every minute until the block ends."""
    _set_arenas()
    task = asyncio.create_task(_trim_periodically(), name="memory")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def trim_memory() -> bool:
    """Return freed memory to the system; False if there was none. May take some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))


async def _trim_periodically() -> None:
    while True:
        await asyncio.sleep(_INTERVAL_SECONDS)
        await asyncio.to_thread(trim_memory)


def _set_arenas() -> None:
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_ARENA_MAX, _ARENAS)
