"""Shared scans of /proc, so that a thousand stops need a few scans and not a thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from hypervisor.runtimes.process.procfs import ProcessTable


class ProcessScanner:
    """Callers that come while a scan runs share the next one.

    `supervised_sessions` returns the sessions that belong to a live supervisor, see `ProcessTable.scan`.
    """

    def __init__(self, supervised_sessions: Callable[[], Container[int]]) -> None:
        self._supervised_sessions = supervised_sessions
        self._running = asyncio.Lock()
        self._next: asyncio.Task[ProcessTable] | None = None

    async def table(self) -> ProcessTable:
        """All processes at a moment after this call. Raises OSError when no file descriptor is left."""
        if self._next is None:
            self._next = asyncio.create_task(self._scan())
        return await asyncio.shield(self._next)

    async def _scan(self) -> ProcessTable:
        async with self._running:
            self._next = None
            return await asyncio.to_thread(ProcessTable.scan, self._supervised_sessions())
