"""Starts and stops the control loops together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from hypervisor.control.leases.held import HeldLeases
from hypervisor.control.leases.manager import LeaseManager, LeaseTimes
from hypervisor.control.maintenance.loop import Maintenance
from hypervisor.control.maintenance.retention import RetentionPolicy
from hypervisor.control.metrics import initialize_counters, measure_leases
from hypervisor.control.reconciler.checkpoint_env import CheckpointEnv
from hypervisor.control.reconciler.engine_pool import CordonChecks, EnginePool
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

RELEASE_TIMEOUT = 5.0
LEASES_STALE_SECONDS = 45.0
PASS_STALE_SECONDS = 120.0
"""Seconds without a heartbeat after which readiness reports a loop as stuck; long queues take time."""
DEFAULT_SITE = "here"

log = structlog.get_logger(__name__)


class Loops:
    """The lease manager, scheduler, reconciler and maintenance of this server."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        runtimes: RuntimeRegistry,
        encryptor: Encryptor,
        checkpoint_env: CheckpointEnv,
        *,
        install: str,
        random: Random,
        interval: float,
        optimizer_seconds: float = 0.0,
        local_engines: Sequence[EngineRef] = (),
        retention: RetentionPolicy | None = None,
        cordon_checks: CordonChecks | None = None,
        site: str = DEFAULT_SITE,
        lease_times: LeaseTimes | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`site` names the machine and data folder whose local engines this server can drive.

        `interval` is the time between full passes in seconds; `optimizer_seconds` is the time budget of the
        optimizer per pass (0: unlimited).
        """
        retention = retention or RetentionPolicy()
        telemetry = telemetry or Telemetry.silent(clock)
        self.leases = HeldLeases(clock, wakeup)
        self._engine_pool = EnginePool(runtimes, self.leases, site, cordon_checks, telemetry)
        shared = database, clock, wakeup
        self._reconciler = Reconciler(
            *shared,
            self._engine_pool,
            self.leases,
            encryptor,
            checkpoint_env,
            random=random,
            interval=interval,
            telemetry=telemetry,
        )
        self._lease_manager = LeaseManager(
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
            optimizer_seconds=optimizer_seconds,
            retention=retention.decisions,
            telemetry=telemetry,
        )
        self._maintenance = Maintenance(*shared, self._engine_pool, self.leases, retention=retention)
        self._tasks: list[asyncio.Task[None]] = []
        self._heartbeats = telemetry.heartbeats
        pass_stale = PASS_STALE_SECONDS + 3 * interval
        self._stale_after = {
            "leases": LEASES_STALE_SECONDS,
            "scheduler": pass_stale,
            "reconciler": pass_stale,
        }
        initialize_counters(telemetry, self._engine_pool)
        telemetry.before_scrape.append(lambda: measure_leases(telemetry, self.leases, self._engine_pool))

    @property
    def alive(self) -> bool:
        """Whether every loop is running; for readiness."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def start(self) -> None:
        """Start all loops on the running event loop."""
        loops = {
            "leases": self._lease_manager.run(),
            "scheduler": self._scheduler.run(),
            "reconciler": self._reconciler.run(),
            "maintenance": self._maintenance.run(),
        }
        self._tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
        for name, stale_after in self._stale_after.items():
            self._heartbeats.expect(name, stale_after)

    async def stop(self) -> None:
        """Stop the loops and release the leases. Workloads on the engines keep running."""
        if not self._tasks:
            return
        tasks, self._tasks = self._tasks, []
        for name in self._stale_after:
            self._heartbeats.forget(name)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._reconciler.stop_driving(self._engine_pool.driven)
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._lease_manager.release_all()
        except Exception as error:
            # Other servers wait for the expiry then, as after a crash.
            log.warning("leases.not_released", error=str(error))
