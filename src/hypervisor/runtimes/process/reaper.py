"""Kills what a workload leaves behind: an instance has finished only when no process of it is left.

A preempted training run whose workers still hold the GPU has freed nothing, even if its first process exited.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from hypervisor.kernel.clock import Clock
from hypervisor.runtimes.process.instance_processes import InstanceProcesses, find_processes
from hypervisor.runtimes.process.procfs import Process
from hypervisor.runtimes.process.procfs_scanner import ProcessScanner
from hypervisor.runtimes.process.tracked_instance import TrackedInstance

_log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
PAUSE_FACTOR = 4
"""The pause after a scan, as a multiple of its duration: the reaper uses at most a fifth of a core."""

DRAIN_SECONDS = 5.0
"""The time that the helpers of an instance get to store its output after its last process.

They need moments. They only take longer while a process that is not of the instance holds its output open.
"""


@dataclass(frozen=True, slots=True)
class _Pending:
    """An instance to reap since a monotonic time."""

    tracked: TrackedInstance
    since: float


class Reaper:
    """Kills the remaining processes of each added instance, and calls `on_clean` when none is left.

    One scan of /proc serves all pending instances. A process that cannot be killed (stuck in a driver, or
    owned by another user) is checked again until it has ended.
    """

    def __init__(
        self, on_clean: Callable[[TrackedInstance], None], scanner: ProcessScanner, clock: Clock
    ) -> None:
        self._on_clean = on_clean
        self._scanner = scanner
        self._clock = clock
        self._pending: dict[str, _Pending] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, tracked: TrackedInstance) -> None:
        """Reap an instance whose workload has ended."""
        self._pending.setdefault(tracked.name, _Pending(tracked, self._clock.monotonic()))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop. Pending instances are not reported."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while self._pending:
            began = self._clock.monotonic()
            batch = list(self._pending.values())
            remaining = await self._reap(batch)
            for pending in batch:
                if pending.tracked.name not in remaining and not self._report(pending.tracked):
                    remaining.add(pending.tracked.name)
            pause = min(2 * pause, LONGEST_PAUSE) if len(remaining) == len(batch) else FIRST_PAUSE
            if self._pending:
                took = self._clock.monotonic() - began
                await asyncio.sleep(max(pause if remaining else 0.0, PAUSE_FACTOR * took))

    def _report(self, tracked: TrackedInstance) -> bool:
        """Report a clean instance. False to try again: an error of one must not stop the others."""
        try:
            self._on_clean(tracked)
        except Exception:
            _log.exception("cannot conclude the instance %s", tracked.name)
            return False
        self._pending.pop(tracked.name, None)
        return True

    async def _reap(self, batch: Collection[_Pending]) -> set[str]:
        """Kill the remaining processes. Return the names of the instances that are not over."""
        try:
            table = await self._scanner.table()
            found = [(pending, find_processes(pending.tracked, table)) for pending in batch]
            for pending, processes in found:
                self._kill(pending, processes)
        except OSError:
            # Without a file descriptor there is no scan, so no instance counts as clean.
            return {pending.tracked.name for pending in batch}
        return {
            pending.tracked.name
            for pending, processes in found
            if not (processes.is_empty and pending.tracked.supervisor_ended.is_set())
        }

    def _kill(self, pending: _Pending, processes: InstanceProcesses) -> None:
        if processes.workload or processes.has_younger:
            kill_workload(pending.tracked, processes)
        elif self._clock.monotonic() - pending.since > DRAIN_SECONDS:
            send_all(processes.helpers, signal.SIGKILL)
        else:
            send_all((one for one in processes.helpers if one.is_stopped), signal.SIGCONT)


def kill_workload(tracked: TrackedInstance, processes: InstanceProcesses) -> None:
    """Send SIGKILL to the workload, and not to its helpers."""
    if tracked.cgroup is not None:
        tracked.cgroup.kill()
    send_all(processes.workload, signal.SIGKILL)


def send_all(processes: Iterable[Process], signum: int) -> None:
    """Signal each process. Skip those of another user (sudo in a workload)."""
    for process in processes:
        with contextlib.suppress(PermissionError):
            process.send(signum)
