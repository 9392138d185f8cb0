"""The maintenance loop: removes ended instances and orphans, finishes deletions, applies retention.

The server that drives an engine cleans up on it; the server with the `maintenance` lease does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

import structlog
from sqlalchemy import delete, select

from hypervisor.control.leases.engine_registry import on_engines
from hypervisor.control.leases.held import MAINTENANCE, HeldLeases, NotHeld
from hypervisor.control.maintenance.deletions import finish_deletions, has_pending_deletions
from hypervisor.control.maintenance.retention import RetentionPolicy, delete_expired_logs, delete_expired_rows
from hypervisor.control.reconciler.engine_pool import EnginePool
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.observation import Observation, ObservedState
from hypervisor.runtimes.protocol import RuntimeUnavailable
from hypervisor.store.chunks import chunks
from hypervisor.store.database import Database
from hypervisor.store.tables import Attempt, InstanceGc

TOPIC = "maintenance"
BATCH = 200
MAX_CONCURRENT_REMOVALS = 16
DEBOUNCE_SECONDS = 0.3
SWEEP_INTERVAL = 60.0
STOP_CHECK_INTERVAL = 2.0
ORPHAN_GRACE = timedelta(minutes=5)
ORPHAN_STOP_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Maintenance:
    """Cleans up after the other loops; no loop depends on it."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        engine_pool: EnginePool,
        leases: HeldLeases,
        *,
        retention: RetentionPolicy | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._listener = wakeup.listen(TOPIC)
        self._engine_pool = engine_pool
        self._leases = leases
        self._retention = retention or RetentionPolicy()
        self._orphans_since: dict[str, float] = {}
        self._swept_at = clock.monotonic()
        self._stopping = False
        """Whether an instance that runs after its end was just stopped, and so is removed soon."""

    async def run(self) -> None:
        """Clean up on hints and every minute until cancelled. The first sweep follows after one minute."""
        while True:
            await self._listener.wait(STOP_CHECK_INTERVAL if self._stopping else SWEEP_INTERVAL)
            # Attempts end in bursts; the scheduler and the reconciler go first.
            await asyncio.sleep(DEBOUNCE_SECONDS)
            await self.clean_up()

    async def clean_up(self) -> None:
        """One turn. A job that fails is logged and retried in the next turn; the other jobs still run."""
        await self._run_safely(self.remove_ended)
        if self._holds_lease:
            await self._run_safely(self._finish_deletions)
        if self._clock.monotonic() - self._swept_at >= SWEEP_INTERVAL:
            self._swept_at = self._clock.monotonic()
            await self._run_safely(self.sweep_orphans)
            if self._holds_lease:
                await self._run_safely(self._delete_expired_rows)
            await self._run_safely(self._delete_expired_logs)

    async def _run_safely(self, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except Exception:
            log.exception("maintenance.job_failed")

    @property
    def _holds_lease(self) -> bool:
        return self._leases.fence(MAINTENANCE) is not None

    async def _delete_expired_rows(self) -> None:
        await delete_expired_rows(self._database, self._retention, self._clock.now())

    async def _delete_expired_logs(self) -> None:
        await asyncio.to_thread(delete_expired_logs, self._retention, self._clock.now())

    async def _finish_deletions(self) -> None:
        async with self._database.read() as session:
            if not await has_pending_deletions(session):
                return
        await finish_deletions(self._database, self._clock.now())

    async def remove_ended(self) -> None:
        """Remove the instances listed in `instance_gc` from their engines.

        An instance stays listed until its runtime has reported that it is gone.
        """
        after, self._stopping = "", False
        driven = on_engines(InstanceGc.runtime, InstanceGc.engine_endpoint, self._engine_pool.driven)
        while True:
            async with self._database.read() as session:
                rows = list(
                    await session.scalars(
                        select(InstanceGc)
                        .where(InstanceGc.instance > after, driven)
                        .order_by(InstanceGc.instance)
                        .limit(BATCH)
                    )
                )
            if not rows:
                return
            after = rows[-1].instance
            await self._remove_all(rows)

    async def sweep_orphans(self) -> None:
        """Stop and remove orphans: instances of this installation without a live attempt for five minutes.
        The delay protects instances whose rows are not committed yet.
        """
        instances: dict[str, tuple[EngineRef, Observation]] = {}
        for engine in self._engine_pool.driven:
            for instance, observation in (await self._list_instances(engine)).items():
                instances[instance] = (engine, observation)
        orphans = set(instances) - await self._expected_instances(sorted(instances))
        now = self._clock.monotonic()
        self._orphans_since = {name: self._orphans_since.get(name, now) for name in orphans}
        for name in sorted(orphans):
            if now - self._orphans_since[name] >= ORPHAN_GRACE.total_seconds():
                await self._remove_orphan(name, *instances[name])

    async def _remove_all(self, rows: Sequence[InstanceGc]) -> None:
        limit = asyncio.Semaphore(MAX_CONCURRENT_REMOVALS)

        async def remove(row: InstanceGc) -> InstanceGc | None:
            async with limit:
                return row if await self._remove(row) else None

        done = [row for row in await asyncio.gather(*map(remove, rows)) if row is not None]
        async with self._database.write() as session:
            for purged in {row.purge_logs for row in done}:
                finished = [row.instance for row in done if row.purge_logs is purged]
                # A deletion may have set `purge_logs` meanwhile: its row stays for the next turn.
                await session.execute(
                    delete(InstanceGc)
                    .where(InstanceGc.instance.in_(finished), InstanceGc.purge_logs.is_(purged))
                    .execution_options(synchronize_session=False)
                )

    async def _remove(self, row: InstanceGc) -> bool:
        """Remove an ended instance; whether it is gone. One that runs again is stopped first."""
        engine = EngineRef(row.runtime, row.engine_endpoint)
        try:
            reached("gc_before_remove")
            if not await self._engine_pool.open(engine).remove(row.instance):
                log.warning("maintenance.runs_after_end", instance=row.instance, runtime=row.runtime)
                await self._engine_pool.open(engine).stop(row.instance, ORPHAN_STOP_SECONDS)
                self._stopping = True
                return False
            if row.purge_logs:
                await self._engine_pool.open(engine).purge_logs(row.instance)
        except (RuntimeUnavailable, NotHeld):
            return False
        return True

    async def _list_instances(self, engine: EngineRef) -> Mapping[str, Observation]:
        try:
            return await self._engine_pool.open(engine).list_instances()
        except (RuntimeUnavailable, NotHeld):
            return {}

    async def _expected_instances(self, names: Sequence[str]) -> set[str]:
        expected: set[str] = set()
        async with self._database.read() as session:
            for chunk in chunks(names):
                live = select(Attempt.instance).where(
                    Attempt.instance.in_(chunk), Attempt.finished_at.is_(None)
                )
                listed = select(InstanceGc.instance).where(InstanceGc.instance.in_(chunk))
                expected |= set(await session.scalars(live)) | set(await session.scalars(listed))
        return expected

    async def _remove_orphan(self, name: str, engine: EngineRef, observation: Observation) -> None:
        log.warning(
            "maintenance.orphan", instance=name, runtime=engine.runtime, state=observation.state.value
        )
        try:
            if observation.state is ObservedState.RUNNING:
                await self._engine_pool.open(engine).stop(name, ORPHAN_STOP_SECONDS)
            else:
                await self._engine_pool.open(engine).remove(name)
        except (RuntimeUnavailable, NotHeld) as error:
            log.info("maintenance.orphan_unreachable", instance=name, error=str(error))
