"""The scheduler's loop: for each cluster that is held and has something waiting, snapshot, plan, commit.

It wakes at once on a hint (submit, finish, node change) and makes a full pass every interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import bindparam, func, select

from hypervisor.control.commit import Committed, commit_plan
from hypervisor.control.decisions import Decided, Retention, changes_something, decide, store_decision
from hypervisor.control.holdings import Holdings, cluster_lease
from hypervisor.control.measuring import measure_commit, measure_round
from hypervisor.control.pacing import Pacing
from hypervisor.control.reasons import changed_reasons, write_reasons
from hypervisor.control.snapshots import ClusterView, Engine, load_cluster
from hypervisor.infra.observability.failures import Failures
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.failpoints import reached
from hypervisor.scheduling.plan_result import Plan
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.leases import Fence, StaleEpoch
from hypervisor.store.tables import IS_QUEUED, Deployment

TOPIC = "scheduler"
ERROR_PAUSE = 1.0
LONGEST_LINGER = 0.05
CONFLICT_PASSES = 5
"""A plan that was partly rejected is made anew at once, at most so often before the next hint or interval."""
REASONS_EVERY = timedelta(seconds=1)

_WITH_WAITING = select(Deployment.cluster_id).where(IS_QUEUED).distinct()
_NEXT_RETRY = select(func.min(Deployment.not_before)).where(
    IS_QUEUED, Deployment.not_before > bindparam("now")
)

log = structlog.get_logger(__name__)


class Hinted(Protocol):
    """Whoever starts and stops what a commit decided."""

    def hint(self, instances: Collection[str]) -> None: ...

    @property
    def unreachable(self) -> Collection[Engine]: ...

    def obstacle(self, engine: Engine) -> str | None: ...


class Scheduler:
    """One member's loop over the clusters that it holds."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        wakeup: Wakeup,
        holdings: Holdings,
        reconciler: Hinted,
        *,
        install: str,
        interval: float,
        improve_seconds: float = 0.0,
        retention: Retention | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._listener = wakeup.listen(TOPIC)
        self._wakeup = wakeup
        self._holdings = holdings
        self._reconciler = reconciler
        self._install = install
        self._interval = interval
        self._pacing = Pacing(clock, improve_seconds)
        self._retention = retention or Retention()
        self._telemetry = telemetry or Telemetry.silent(clock)
        self._failures = Failures(log, "scheduler.pass_failed")
        self._reasons_at: dict[int, datetime] = {}
        self._reasons_held_back = False

    async def run(self) -> None:
        """Schedule until cancelled. An error is logged, and the next pass finds everything again."""
        while True:
            began = self._clock.monotonic()
            try:
                wait = await self.pass_over_all()
                measure_round(self._telemetry, self._clock.now())
                self._failures.over()
            except Exception as error:
                self._failures.note(error)
                self._telemetry.metrics.pass_failures.inc()
                wait = ERROR_PAUSE
            ended = self._clock.monotonic()
            await self._listener.wait(wait)
            # Hints come in bursts: the longer a pass takes, the more of them the next one should serve.
            rest = min(LONGEST_LINGER, (ended - began) / 4)
            await asyncio.sleep(max(0.0, rest - (self._clock.monotonic() - ended)))

    async def pass_over_all(self) -> float:
        """One pass over every cluster of ours with something waiting; how long to wait for the next, seconds.

        Clusters that nobody is known to hold are asked for.
        """
        self._reasons_held_back = False
        waiting = await self._clusters_with_waiting()
        for cluster_id in waiting:
            fence = self._holdings.fence(cluster_lease(cluster_id))
            if fence is not None:
                await self._pass_fenced(cluster_id, fence)
        self._holdings.want([cluster_lease(cluster_id) for cluster_id in waiting])
        wait = await self._until_next_retry() if waiting else self._interval
        return min(wait, REASONS_EVERY.total_seconds()) if self._reasons_held_back else wait

    async def _pass_fenced(self, cluster_id: int, fence: Fence) -> None:
        try:
            with self._telemetry.metrics.passes.time():
                await self.pass_over(cluster_id, fence)
        except StaleEpoch as error:
            log.warning("scheduler.stale", error=str(error))
            self._telemetry.metrics.stale_epochs.inc()
            self._holdings.doubt(fence.lease)

    async def pass_over(self, cluster_id: int, fence: Fence) -> None:
        """Plan one cluster and commit, again while parts were rejected by what changed in between."""
        for _ in range(CONFLICT_PASSES):
            began = self._clock.now()
            view = await self._load(cluster_id)
            if view is None or not view.pending:
                return
            view = replace(view, policy=self._pacing.granted(cluster_id, view.policy))
            watch = self._pacing.stopwatch(cluster_id)
            made = await asyncio.to_thread(decide, view, self._retention, watch)
            decided = made.plan
            committed = await self._commit(view, made, fence)
            reached("plan_after_commit")
            measure_commit(self._telemetry, cluster_id, committed, began, self._clock.now())
            if committed.started or committed.stopping:
                self._reconciler.hint([*committed.started, *committed.stopping])
                self._wakeup.notify("reconciler")
                self._wakeup.notify("events")
            if not committed.rejected:
                await self._write_reasons(view, decided)
                return
            log.info("scheduler.rejected", cluster=cluster_id, deployments=committed.rejected[:20])

    async def _clusters_with_waiting(self) -> list[int]:
        async with self._database.read() as session:
            return sorted(await session.scalars(_WITH_WAITING))

    async def _load(self, cluster_id: int) -> ClusterView | None:
        async with self._database.read() as session:
            return await load_cluster(session, cluster_id, self._clock.now(), self._reconciler.unreachable)

    async def _commit(self, view: ClusterView, made: Decided, fence: Fence) -> Committed:
        if not changes_something(view, made.plan):
            return Committed()
        now = self._clock.now()

        async def work(session: WriteSession) -> Committed:
            done = await commit_plan(session, view, made.plan, fence=fence, install=self._install, now=now)
            store_decision(session, view, made, epoch=fence.epoch, now=now)
            return done

        return await self._database.transact(work)

    async def _write_reasons(self, view: ClusterView, decided: Plan) -> None:
        """Reasons are for people: a busy cluster rewrites them at most once a second."""
        obstacle = self._reconciler.obstacle((view.runtime, None))
        changes = changed_reasons(decided.unplaced, view.pending, obstacle)
        now = self._clock.now()
        last = self._reasons_at.get(view.cluster_id)
        if not changes:
            return
        if last is not None and timedelta(0) <= now - last < REASONS_EVERY:
            self._reasons_held_back = True
            return
        self._reasons_at[view.cluster_id] = now
        await self._database.transact(lambda session: write_reasons(session, changes))

    async def _until_next_retry(self) -> float:
        """The interval, or less when a back-off ends before it; in seconds."""
        async with self._database.read() as session:
            due = await session.scalar(_NEXT_RETRY, {"now": self._clock.now()})
        if due is None:
            return self._interval
        return min(self._interval, max(0.01, (due - self._clock.now()).total_seconds()))
