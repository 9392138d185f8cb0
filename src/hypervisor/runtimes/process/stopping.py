"""SIGTERM now, SIGKILL when the grace period is over, across restarts of the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from dataclasses import replace

from hypervisor.kernel.clock import Clock
from hypervisor.runtimes.process.instance_dir import StopOrder
from hypervisor.runtimes.process.proc import Identity, Process
from hypervisor.runtimes.process.reaper import send_all
from hypervisor.runtimes.process.scanner import Scanner
from hypervisor.runtimes.process.tracked import Tracked

SUPERVISOR_TIME = 0.5
"""Seconds that a supervisor gets to write the exit code of a workload that was killed under it."""


class Stopper:
    """Carries out stop orders and keeps them on disk, where the next server finds them."""

    def __init__(self, clock: Clock, scanner: Scanner) -> None:
        self._clock = clock
        self._scanner = scanner
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, tracked: Tracked, grace: float) -> bool:
        """Write the order down; False if one with the same or an earlier deadline stands already."""
        order = StopOrder(self._clock.now().timestamp() + grace, grace)
        if tracked.stop is not None:
            if order.deadline >= tracked.stop.deadline:
                return False
            order = replace(order, sent=tracked.stop.sent, killed=tracked.stop.killed)
        _write(tracked, order)
        return True

    def carry_out(self, tracked: Tracked, supervisor: Identity) -> None:
        """Send SIGTERM unless that was done, and set the timer for the kill by what is left of the grace."""
        order = tracked.stop
        if order is None or tracked.supervisor_gone.is_set():
            return
        if not order.sent:
            _signal_group(tracked, supervisor, signal.SIGTERM)
            _write(tracked, replace(order, sent=True))
            self._spawn(self._terminate_others(tracked.name, supervisor))
        if tracked.timer is not None:
            tracked.timer.cancel()
        left = order.remaining(self._clock.now().timestamp())
        tracked.timer = asyncio.get_running_loop().call_later(left, self._deadline, tracked)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _deadline(self, tracked: Tracked) -> None:
        if tracked.final is None and not tracked.supervisor_gone.is_set():
            self._spawn(self._kill(tracked))

    async def _kill(self, tracked: Tracked) -> None:
        """The workload first, so that its supervisor can still write the exit code; then the supervisor."""
        identity = tracked.identity
        if identity is None or tracked.stop is None:
            return
        _write(tracked, replace(tracked.stop, killed=True))
        members = await self._members(tracked.name, identity)
        send_all((one for one in members if one.pid != identity.pid), signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SUPERVISOR_TIME):
                await tracked.supervisor_gone.wait()
        # The kernel kills a group in one step: what was forked meanwhile goes with the supervisor.
        if not tracked.supervisor_gone.is_set():
            _signal_group(tracked, identity, signal.SIGKILL)

    async def _terminate_others(self, instance: str, supervisor: Identity) -> None:
        """What has made a process group or session of its own did not hear the signal to the group."""
        members = await self._members(instance, supervisor)
        send_all((one for one in members if one.group != supervisor.pid), signal.SIGTERM)

    async def _members(self, instance: str, identity: Identity) -> list[Process]:
        try:
            return (await self._scanner.table()).members(instance, identity)
        except OSError:
            return []

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _signal_group(tracked: Tracked, supervisor: Identity, signum: int) -> None:
    if supervisor.is_alive(tracked.name):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(supervisor.pid, signum)


def _write(tracked: Tracked, order: StopOrder) -> None:
    tracked.stop = order
    # A full disk must not keep a workload from being stopped.
    with contextlib.suppress(OSError):
        tracked.folder.write_stop_order(order)
