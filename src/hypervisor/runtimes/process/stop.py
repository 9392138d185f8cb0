"""Stops instances: SIGTERM at once, SIGKILL after the grace period, also across restarts of the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from dataclasses import replace

from hypervisor.kernel.clock import Clock
from hypervisor.runtimes.process.instance_dir import StopOrder
from hypervisor.runtimes.process.instance_processes import InstanceProcesses, find_processes
from hypervisor.runtimes.process.procfs import ProcessIdentity, child_groups
from hypervisor.runtimes.process.procfs_scanner import ProcessScanner
from hypervisor.runtimes.process.reaper import kill_workload, send_all
from hypervisor.runtimes.process.tracked_instance import TrackedInstance

SUPERVISOR_SECONDS = 0.5
"""The time that a supervisor gets to write the exit code after its workload was killed."""


class Stopper:
    """Carries out stop orders and stores them on disk for the next server."""

    def __init__(self, clock: Clock, scanner: ProcessScanner) -> None:
        self._clock = clock
        self._scanner = scanner
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, tracked: TrackedInstance, grace: float) -> bool:
        """Store a stop order. False if there is one with the same or an earlier deadline."""
        order = StopOrder(self._clock.now().timestamp() + grace, grace)
        earlier = tracked.stop_order
        if earlier is not None:
            if order.deadline >= earlier.deadline:
                return False
            order = replace(order, sent=earlier.sent, killed=earlier.killed)
        _write(tracked, order)
        return True

    def carry_out(self, tracked: TrackedInstance, supervisor: ProcessIdentity) -> None:
        """Send SIGTERM unless it was sent, and set the timer for SIGKILL to the rest of the grace period."""
        order = tracked.stop_order
        if order is None or tracked.supervisor_ended.is_set():
            return
        if not order.sent:
            _signal_groups(tracked, supervisor, signal.SIGTERM)
            _write(tracked, replace(order, sent=True))
            self._spawn(self._terminate_other_groups(tracked, supervisor))
        if tracked.kill_timer is not None:
            tracked.kill_timer.cancel()
        remaining = order.remaining(self._clock.now().timestamp())
        tracked.kill_timer = asyncio.get_running_loop().call_later(remaining, self._on_deadline, tracked)

    async def close(self) -> None:
        """Cancel the running kills. The orders stay on disk."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_deadline(self, tracked: TrackedInstance) -> None:
        if tracked.final is None and not tracked.supervisor_ended.is_set():
            self._spawn(self._kill(tracked))

    async def _kill(self, tracked: TrackedInstance) -> None:
        """Kill the workload, then its supervisor, which can write the exit code in between."""
        supervisor = tracked.identity
        if supervisor is None or tracked.stop_order is None:
            return
        _write(tracked, replace(tracked.stop_order, killed=True))
        processes = await self._processes(tracked)
        if processes is not None:
            kill_workload(tracked, processes)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SUPERVISOR_SECONDS):
                await tracked.supervisor_ended.wait()
        # The kernel kills a process group in one step, so children forked since then die as well. With an
        # exit code the workload is dead, and its supervisor may still store the output.
        if not (tracked.supervisor_ended.is_set() or tracked.has_exit_code()):
            _signal_groups(tracked, supervisor, signal.SIGKILL)

    async def _terminate_other_groups(self, tracked: TrackedInstance, supervisor: ProcessIdentity) -> None:
        """Send SIGTERM to the processes that left the group, which the signal to the group did not reach."""
        processes = await self._processes(tracked)
        if processes is not None:
            signalled = {supervisor.pid, *child_groups(supervisor.pid)}
            others = (process for process in processes.workload if process.group not in signalled)
            send_all(others, signal.SIGTERM)

    async def _processes(self, tracked: TrackedInstance) -> InstanceProcesses | None:
        """The processes of the instance. None when no file descriptor is left."""
        try:
            return find_processes(tracked, await self._scanner.table())
        except OSError:
            return None

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _signal_groups(tracked: TrackedInstance, supervisor: ProcessIdentity, signum: int) -> None:
    """Signal the groups of the supervisor's children, and its own, which a workload leaves at its start."""
    if not supervisor.is_alive(tracked.name):
        return
    before = child_groups(supervisor.pid)
    _signal(supervisor.pid, signum)
    # A workload may have got its own group in between.
    for group in {*before, *child_groups(supervisor.pid)}:
        _signal(group, signum)


def _signal(group: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def _write(tracked: TrackedInstance, order: StopOrder) -> None:
    tracked.stop_order = order
    # A full disk must not prevent a stop.
    with contextlib.suppress(OSError):
        tracked.directory.write_stop_order(order)
