"""Ending what a workload leaves behind: an instance is over only when nothing of it is left.

A preempted training run whose workers still hold the GPU has freed nothing, whatever its first process said.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Collection, Iterable

from hypervisor.kernel.clock import Clock
from hypervisor.runtimes.process.proc import Process
from hypervisor.runtimes.process.scanner import Scanner
from hypervisor.runtimes.process.tracked import Tracked

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
SHARE = 4
"""The sweeper rests this many times as long as a scan took: it never uses more than a fifth of a core."""


class Reaper:
    """Kills the rest of each instance given to `add` and calls `on_clean` when nothing is left of it.

    One scan of /proc serves all instances that wait for one. What cannot be killed (a process stuck in a
    driver, or another user's) is looked at again for as long as it takes.
    """

    def __init__(self, on_clean: Callable[[Tracked], None], scanner: Scanner, clock: Clock) -> None:
        self._on_clean = on_clean
        self._scanner = scanner
        self._clock = clock
        self._waiting: dict[str, Tracked] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, tracked: Tracked) -> None:
        self._waiting[tracked.name] = tracked
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while self._waiting:
            began = self._clock.monotonic()
            batch = list(self._waiting.values())
            dirty = await self._sweep(batch)
            for tracked in batch:
                if tracked.name not in dirty:
                    del self._waiting[tracked.name]
                    self._on_clean(tracked)
            pause = min(2 * pause, LONGEST_PAUSE) if len(dirty) == len(batch) else FIRST_PAUSE
            if self._waiting:
                await asyncio.sleep(max(pause if dirty else 0.0, SHARE * (self._clock.monotonic() - began)))

    async def _sweep(self, batch: Collection[Tracked]) -> set[str]:
        """Kill what is left of each; the names of those of which something was left."""
        try:
            table = await self._scanner.table()
            left = {one.name: table.members(one.name, one.identity) for one in batch if one.identity}
            for members in left.values():
                send_all(members, signal.SIGKILL)
        except OSError:
            # No descriptor to look with: nothing is known, so nothing is called clean.
            return {one.name for one in batch}
        return {name for name, members in left.items() if members}


def send_all(processes: Iterable[Process], signum: int) -> None:
    """Signal each that may be signalled: another user's processes (sudo in a workload) are passed over."""
    for process in processes:
        with contextlib.suppress(PermissionError):
            process.send(signum)
