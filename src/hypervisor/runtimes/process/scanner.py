"""Looking at all processes without doing so once for each instance that asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from hypervisor.runtimes.process.proc import ProcessTable


class Scanner:
    """Whoever asks while a scan runs shares the next one, so that stopping a thousand instances takes a few
    scans. `settled` tells which sessions belong to a live supervisor, see `ProcessTable.scan`.
    """

    def __init__(self, settled: Callable[[], Container[int]]) -> None:
        self._settled = settled
        self._running = asyncio.Lock()
        self._next: asyncio.Task[ProcessTable] | None = None

    async def table(self) -> ProcessTable:
        """All processes as they were at some moment after this call. Raises OSError without descriptors."""
        if self._next is None:
            self._next = asyncio.create_task(self._scan())
        return await asyncio.shield(self._next)

    async def _scan(self) -> ProcessTable:
        async with self._running:
            self._next = None
            return await asyncio.to_thread(ProcessTable.scan, self._settled())
