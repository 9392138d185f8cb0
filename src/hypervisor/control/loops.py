"""Starts and stops the loops together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from hypervisor.control.engines import Engines, Obstacles
from hypervisor.control.housekeeping import Keep
from hypervisor.control.janitor import Janitor
from hypervisor.control.leadership import Leadership
from hypervisor.control.reconciler import Reconciler
from hypervisor.control.reporting import Reporting
from hypervisor.control.scheduler import LEASE, Scheduler
from hypervisor.control.snapshots import Engine
from hypervisor.infra.sealing import Sealer
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.store.database import Database


class Loops:
    """Scheduler, reconciler and janitor of this process."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        runtimes: RuntimeRegistry,
        sealer: Sealer,
        reporting: Reporting,
        *,
        install: str,
        interval: float,
        local_engines: Sequence[Engine] = (),
        keep: Keep | None = None,
        obstacles: Obstacles | None = None,
    ) -> None:
        keep = keep or Keep()
        engines = Engines(runtimes, obstacles)
        self._leadership = Leadership(database, clock, LEASE, holder=secrets.token_hex(8))
        self._reconciler = Reconciler(database, clock, wakeup, engines, sealer, reporting, interval=interval)
        self._scheduler = Scheduler(
            database,
            clock,
            wakeup,
            self._leadership,
            self._reconciler,
            install=install,
            interval=interval,
            retention=keep.decisions,
        )
        self._janitor = Janitor(database, clock, wakeup, engines, default_engines=local_engines, keep=keep)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def alive(self) -> bool:
        """Whether every loop is still going; for readiness."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def start(self) -> None:
        """Start all loops on the running event loop."""
        loops = {
            "leadership": self._leadership.run(),
            "scheduler": self._scheduler.run(),
            "reconciler": self._reconciler.run(),
            "janitor": self._janitor.run(),
        }
        self._tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]

    async def stop(self) -> None:
        """End the loops and hand over the lease; what runs on engines goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
