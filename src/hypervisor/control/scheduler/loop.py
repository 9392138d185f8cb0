"""The scheduler's loop: snapshot, plan and commit for each cluster of this server with a queue.

A hint (submit, end, node change) wakes it at once; a full pass runs every interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import bindparam, func, select

from hypervisor.control.leases.held import HeldLeases, cluster_lease
from hypervisor.control.scheduler.commit import Committed, commit_plan
from hypervisor.control.scheduler.decision_log import (
    DecisionRetention,
    PlannedDecision,
    changes_something,
    decide,
    store_decision,
)
from hypervisor.control.scheduler.metrics import measure_commit, measure_cycle
from hypervisor.control.scheduler.pending_reasons import changed_reasons, write_reasons
from hypervisor.control.scheduler.search_budget import SearchBudget
from hypervisor.control.scheduler.snapshot_loader import ClusterView, load_cluster
from hypervisor.infra.observability.failures import Failures
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.failpoints import reached
from hypervisor.scheduling.plan_result import Plan
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.leases import Fence, StaleEpoch
from hypervisor.store.tables import IS_QUEUED, Deployment

TOPIC = "scheduler"
ERROR_PAUSE = 1.0
MAX_DEBOUNCE_SECONDS = 0.05
MAX_CONFLICT_PASSES = 5
"""Passes over a cluster in a row while its plans are partly rejected; then the next hint or interval."""
REASONS_INTERVAL = timedelta(seconds=1)

_CLUSTERS_WITH_QUEUE = select(Deployment.cluster_id).where(IS_QUEUED).distinct()
_NEXT_RETRY = select(func.min(Deployment.not_before)).where(
    IS_QUEUED, Deployment.not_before > bindparam("now")
)

log = structlog.get_logger(__name__)


class ReconcilerView(Protocol):
    """The part of the reconciler that the scheduler uses."""

    def hint(self, instances: Collection[str]) -> None: ...

    @property
    def unreachable(self) -> Collection[EngineRef]: ...

    def cordon_reason(self, engine: EngineRef) -> str | None: ...


class Scheduler:
    """The loop of one server over the clusters whose leases it holds."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        leases: HeldLeases,
        reconciler: ReconcilerView,
        *,
        install: str,
        interval: float,
        optimizer_seconds: float = 0.0,
        retention: DecisionRetention | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._listener = wakeup.listen(TOPIC)
        self._wakeup = wakeup
        self._leases = leases
        self._reconciler = reconciler
        self._install = install
        self._interval = interval
        self._search_budget = SearchBudget(clock, optimizer_seconds)
        self._retention = retention or DecisionRetention()
        self._telemetry = telemetry or Telemetry.silent(clock)
        self._failures = Failures(log, "scheduler.pass_failed")
        self._reasons_written_at: dict[int, datetime] = {}
        self._reasons_deferred = False

    async def run(self) -> None:
        """Schedule until cancelled. An error is logged, and the next pass starts over."""
        while True:
            started_at = self._clock.monotonic()
            try:
                wait = await self.schedule_all()
                measure_cycle(self._telemetry, self._clock.now())
                self._failures.over()
            except Exception as error:
                self._failures.note(error)
                self._telemetry.metrics.pass_failures.inc()
                wait = ERROR_PAUSE
            ended = self._clock.monotonic()
            await self._listener.wait(wait)
            # Hints come in bursts: the longer a pass takes, the more hints the next one should serve.
            debounce = min(MAX_DEBOUNCE_SECONDS, (ended - started_at) / 4)
            await asyncio.sleep(max(0.0, debounce - (self._clock.monotonic() - ended)))

    async def schedule_all(self) -> float:
        """One pass over every held cluster with a queue; the time until the next one in seconds.

        Requests the leases of the other clusters with a queue.
        """
        self._reasons_deferred = False
        queued = await self._clusters_with_queue()
        for cluster_id in queued:
            fence = self._leases.fence(cluster_lease(cluster_id))
            if fence is not None:
                await self._schedule_fenced(cluster_id, fence)
        self._leases.request([cluster_lease(cluster_id) for cluster_id in queued])
        wait = await self._until_next_retry() if queued else self._interval
        return min(wait, REASONS_INTERVAL.total_seconds()) if self._reasons_deferred else wait

    async def _schedule_fenced(self, cluster_id: int, fence: Fence) -> None:
        try:
            with self._telemetry.metrics.passes.time():
                await self.schedule_cluster(cluster_id, fence)
        except StaleEpoch as error:
            log.warning("scheduler.stale_epoch", error=str(error))
            self._telemetry.metrics.stale_epochs.inc()
            self._leases.invalidate(fence.lease)

    async def schedule_cluster(self, cluster_id: int, fence: Fence) -> None:
        """Plan one cluster and commit; repeat while parts are rejected because of concurrent changes."""
        for _ in range(MAX_CONFLICT_PASSES):
            started_at = self._clock.now()
            view = await self._load(cluster_id)
            if view is None or not view.pending:
                return
            view = replace(view, policy=self._search_budget.limit_steps(cluster_id, view.policy))
            timer = self._search_budget.timer(cluster_id)
            decision = await asyncio.to_thread(decide, view, self._retention, timer)
            committed = await self._commit(view, decision, fence)
            reached("plan_after_commit")
            measure_commit(self._telemetry, cluster_id, committed, started_at, self._clock.now())
            if committed.started or committed.stopping:
                self._reconciler.hint([*committed.started, *committed.stopping])
                self._wakeup.notify("reconciler")
                self._wakeup.notify("events")
            if not committed.rejected:
                await self._write_reasons(view, decision.plan)
                return
            log.info("scheduler.placements_rejected", cluster=cluster_id, deployments=committed.rejected[:20])

    async def _clusters_with_queue(self) -> list[int]:
        async with self._database.read() as session:
            return sorted(await session.scalars(_CLUSTERS_WITH_QUEUE))

    async def _load(self, cluster_id: int) -> ClusterView | None:
        async with self._database.read() as session:
            return await load_cluster(session, cluster_id, self._clock.now(), self._reconciler.unreachable)

    async def _commit(self, view: ClusterView, decision: PlannedDecision, fence: Fence) -> Committed:
        if not changes_something(view, decision.plan):
            return Committed()
        now = self._clock.now()

        async def transaction(session: WriteSession) -> Committed:
            committed = await commit_plan(
                session, view, decision.plan, fence=fence, install=self._install, now=now
            )
            store_decision(session, view, decision, epoch=fence.epoch, now=now)
            return committed

        return await self._database.transact(transaction)

    async def _write_reasons(self, view: ClusterView, plan: Plan) -> None:
        """Write the changed pending reasons, at most once a second for each cluster."""
        cordon_reason = self._reconciler.cordon_reason(EngineRef(view.runtime))
        changes = changed_reasons(plan.unplaced, view.pending, cordon_reason)
        now = self._clock.now()
        last = self._reasons_written_at.get(view.cluster_id)
        if not changes:
            return
        if last is not None and timedelta(0) <= now - last < REASONS_INTERVAL:
            self._reasons_deferred = True
            return
        self._reasons_written_at[view.cluster_id] = now
        await self._database.transact(lambda session: write_reasons(session, changes))

    async def _until_next_retry(self) -> float:
        """Seconds until the next back-off ends, at most the interval."""
        async with self._database.read() as session:
            due = await session.scalar(_NEXT_RETRY, {"now": self._clock.now()})
        if due is None:
            return self._interval
        return min(self._interval, max(0.01, (due - self._clock.now()).total_seconds()))
