"""Starts and stops the loops together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from hypervisor.control.leases.held import HeldLeases
from hypervisor.control.leases.manager import LeaseManager, LeaseTimes
from hypervisor.control.maintenance.loop import Maintenance
from hypervisor.control.maintenance.retention import RetentionPolicy
from hypervisor.control.metrics import measure_from_zero, measure_held
from hypervisor.control.reconciler.checkpoint_env import CheckpointEnv
from hypervisor.control.reconciler.engine_pool import EnginePool, Obstacles
from hypervisor.control.reconciler.loop import Reconciler
from hypervisor.control.scheduler.loop import Scheduler
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.randomness import Random
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.store.database import Database

HAND_OVER_TIMEOUT = 5.0
LEASES_WITHIN = 45.0
TURN_WITHIN = 120.0
"""Seconds after which readiness takes a loop for stuck; a long queue takes its time."""
HERE = "here"

log = structlog.get_logger(__name__)


class Loops:
    """Scheduler, reconciler and janitor of this process, for the share of the work that it holds."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        runtimes: RuntimeRegistry,
        encryptor: Encryptor,
        reporting: CheckpointEnv,
        *,
        install: str,
        random: Random,
        interval: float,
        improve_seconds: float = 0.0,
        local_engines: Sequence[EngineRef] = (),
        keep: RetentionPolicy | None = None,
        obstacles: Obstacles | None = None,
        site: str = HERE,
        lease_times: LeaseTimes | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`site` names the machine and data folder whose own engines this process can drive.

        `interval` is between full passes, and a pass searches for at most `improve_seconds` (0: any time).
        """
        keep = keep or RetentionPolicy()
        telemetry = telemetry or Telemetry.silent(clock)
        self.leases = HeldLeases(clock, wakeup)
        self._engines = EnginePool(runtimes, self.leases, site, obstacles, telemetry)
        shared = database, clock, wakeup
        self._reconciler = Reconciler(
            *shared,
            self._engines,
            self.leases,
            encryptor,
            reporting,
            random=random,
            interval=interval,
            telemetry=telemetry,
        )
        self._holder = LeaseManager(
            *shared,
            self.leases,
            self._reconciler,
            random=random,
            default_engines=local_engines,
            times=lease_times,
            telemetry=telemetry,
        )
        self._scheduler = Scheduler(
            *shared,
            self.leases,
            self._reconciler,
            install=install,
            interval=interval,
            improve_seconds=improve_seconds,
            retention=keep.decisions,
            telemetry=telemetry,
        )
        self._janitor = Maintenance(*shared, self._engines, self.leases, keep=keep)
        self._tasks: list[asyncio.Task[None]] = []
        self._heartbeats = telemetry.heartbeats
        turn = TURN_WITHIN + 3 * interval
        self._within = {"leases": LEASES_WITHIN, "scheduler": turn, "reconciler": turn}
        measure_from_zero(telemetry, self._engines)
        telemetry.before_scrape.append(lambda: measure_held(telemetry, self.leases, self._engines))

    @property
    def alive(self) -> bool:
        """Whether every loop is still going; for readiness."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def start(self) -> None:
        """Start all loops on the running event loop."""
        loops = {
            "holder": self._holder.run(),
            "scheduler": self._scheduler.run(),
            "reconciler": self._reconciler.run(),
            "janitor": self._janitor.run(),
        }
        self._tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
        for name, within in self._within.items():
            self._heartbeats.expect(name, within)

    async def stop(self) -> None:
        """End the loops and hand over the leases at once; what runs on engines goes on."""
        if not self._tasks:
            return
        tasks, self._tasks = self._tasks, []
        for name in self._within:
            self._heartbeats.forget(name)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._reconciler.stop_driving(self._engines.driven)
        try:
            async with asyncio.timeout(HAND_OVER_TIMEOUT):
                await self._holder.hand_over()
        except Exception as error:
            # Others wait for the end of the leases then, as after a death.
            log.warning("leases.not_handed_over", error=str(error))
