"""Loads one cluster into the frozen `Snapshot` for `plan()`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import structlog
from sqlalchemy import ColumnElement, bindparam, or_, select

from hypervisor.control.scheduler.quotas import cooling_down, load_quotas, ping_pong_pairs
from hypervisor.deployments.queue.priority_inheritance import Inherited, inherited_priorities
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.lifecycle.conclude import MAX_BACKOFF_SECONDS
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.solvers import SolverNotInstalled, is_installed, solver_names
from hypervisor.scheduling.scoring.registry import policy_names
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot
from hypervisor.store.database import ReadSession
from hypervisor.store.tables import (
    IS_QUEUED,
    Allocation,
    Attempt,
    Cluster,
    Deployment,
    EngineState,
    Node,
    NominationRow,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """A queued deployment: the data that must be unchanged at the commit, and its current pending reason."""

    generation: int
    name: str
    priority: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A snapshot with the data needed to commit a plan for it."""

    cluster_id: int
    organization_id: int
    runtime: str
    snapshot: Snapshot
    policy: Policy
    pending: Mapping[int, Pending]
    inherited: Mapping[int, Inherited] = field(default_factory=dict)
    """The priority that each deployment inherits from its dependents."""

    def priority_of(self, deployment_id: int, own: int) -> int:
        """The effective priority of a deployment in the snapshot."""
        return effective(self.inherited, deployment_id, own)


async def load_cluster(
    session: ReadSession, cluster_id: int, now: datetime, unreachable: Collection[EngineRef] = ()
) -> ClusterView | None:
    """The cluster at `now`, or None if it was deleted. The nodes of `unreachable` and of cordoned engines are
    unschedulable.
    """
    cluster = await session.scalar(_CLUSTER, {"cluster_id": cluster_id})
    if cluster is None:
        return None
    builder = SnapshotBuilder(now.timestamp())
    await _add_nodes(session, builder, cluster, {*unreachable, *await _cordoned_engines(session)})
    for quota in (quotas := await load_quotas(session, cluster)):
        builder.add_quota(quota)
    for preemptor_id, victim_id in await ping_pong_pairs(session, cluster_id, now):
        builder.freeze_pair(preemptor_id, victim_id)
    inherited = await inherited_priorities(session, cluster_id)
    await _add_allocations(session, builder, cluster, inherited, now, shared=bool(quotas))
    pending = await _add_pending(session, builder, cluster, inherited, now, shared=bool(quotas))
    await _add_nominations(session, builder, cluster_id, pending)
    return ClusterView(
        cluster_id,
        cluster.organization_id,
        cluster.resolved_runtime,
        builder.build(),
        policy_of(cluster),
        pending,
        inherited,
    )


def eligible(now: datetime) -> ColumnElement[bool]:
    """The condition for deployments that are not in a back-off."""
    return or_(
        Deployment.not_before.is_(None),
        Deployment.not_before <= now,
        # No back-off is longer than that: the clock was set back.
        Deployment.not_before > now + timedelta(seconds=MAX_BACKOFF_SECONDS),
    )


def policy_of(cluster: Cluster) -> Policy:
    """The policy of a pass, from the cluster's settings."""
    return Policy(
        placement=_placement_of(cluster),
        preemption=cluster.preemption,
        optimizer_steps=cluster.optimizer_steps,
        solver=_solver_of(cluster),
    )


def _placement_of(cluster: Cluster) -> str:
    """The cluster's placement policy, or the default if only another version has that policy."""
    default = policy_names()[0]
    if cluster.placement_policy in policy_names():
        return cluster.placement_policy
    error = f"unknown placement policy {cluster.placement_policy!r}"
    _warn_once("scheduler.placement_unknown", cluster.id, default, error)
    return default


def _solver_of(cluster: Cluster) -> str:
    """The cluster's solver, or the search if this process lacks it: another process accepted it."""
    default, name = solver_names()[0], cluster.solver
    if name in solver_names() and is_installed(name):
        return name
    error = str(SolverNotInstalled(name)) if name in solver_names() else f"unknown solver {name!r}"
    _warn_once("scheduler.solver_missing", cluster.id, default, error)
    return default


@cache
def _warn_once(event: str, cluster_id: int, instead: str, error: str) -> None:
    log.warning(event, cluster=cluster_id, instead=instead, error=error)


def effective(inherited: Mapping[int, Inherited], deployment_id: int, own: int) -> int:
    """The deployment's priority, or the highest one that it inherits."""
    lent = inherited.get(deployment_id)
    return own if lent is None else max(own, lent.priority)


async def _cordoned_engines(session: ReadSession) -> list[EngineRef]:
    return [EngineRef(row.runtime, row.endpoint) for row in await session.execute(_CORDONED_ENGINES)]


async def _add_nodes(
    session: ReadSession, builder: SnapshotBuilder, cluster: Cluster, unreachable: Collection[EngineRef]
) -> None:
    for node in await session.scalars(_NODES, {"cluster_id": cluster.id}):
        closed = node.cordoned or node.draining or node.deleting or cluster.deleting_at is not None
        engine = EngineRef(cluster.resolved_runtime, node.engine_endpoint)
        builder.add_node(
            node.id,
            cpu_milli=_smaller(node.cpu_milli, node.target_cpu_milli),
            ram_mib=_smaller(node.ram_mib, node.target_ram_mib),
            gpu_count=_smaller(node.gpu_count, node.target_gpu_count),
            name=node.name,
            gpu_model=node.gpu_model,
            labels=node.labels,
            schedulable=not closed and engine not in unreachable,
        )


async def _add_allocations(
    session: ReadSession,
    builder: SnapshotBuilder,
    cluster: Cluster,
    inherited: Mapping[int, Inherited],
    now: datetime,
    *,
    shared: bool,
) -> None:
    rested = await cooling_down(session, cluster, now)
    for row in await session.execute(_ALLOCATIONS, {"cluster_id": cluster.id}):
        since = (row.started_at or row.created_at).timestamp()
        min_runtime = max(row.min_runtime_seconds, cluster.min_runtime_seconds)
        protected_until = since + min_runtime if min_runtime else -math.inf
        _add_allocation(
            builder,
            row,
            since,
            max(protected_until, rested.get(row.deployment_id, -math.inf)),
            effective(inherited, row.deployment_id, row.priority),
            row.organization_id if shared else None,
        )


def _add_allocation(
    builder: SnapshotBuilder,
    row: Any,
    since: float,
    protected_until: float,
    priority: int,
    organization_id: int | None,
) -> None:
    builder.add_allocation(
        row.attempt_id,
        deployment_id=row.deployment_id,
        node_id=row.node_id,
        cpu_milli=row.cpu_milli,
        ram_mib=row.ram_mib,
        gpu_indices=row.gpu_indices,
        gpu_each=row.gpu_milli_per_device or WHOLE_GPU,
        priority=priority,
        preemptible=row.preemptible,
        releasing=row.stop_requested_at is not None,
        started_at=since,
        work_since=max(since, row.checkpoint_at.timestamp()) if row.checkpoint_at else since,
        protected_until=protected_until,
        organization_id=organization_id,
        ends_at=since + (row.max_runtime_seconds or math.inf),
    )


async def _add_pending(
    session: ReadSession,
    builder: SnapshotBuilder,
    cluster: Cluster,
    inherited: Mapping[int, Inherited],
    now: datetime,
    *,
    shared: bool,
) -> dict[int, Pending]:
    pending: dict[int, Pending] = {}
    for row in await session.execute(_QUEUED.where(eligible(now)), {"cluster_id": cluster.id}):
        builder.add_pending(
            row.id,
            Shape.of(Resources(row.cpu_milli, row.ram_mib, row.gpu_milli), row.placement_limits),
            priority=effective(inherited, row.id, row.priority),
            created_at=row.created_at.timestamp(),
            preemptible=row.preemptible,
            protected=max(row.min_runtime_seconds, cluster.min_runtime_seconds) > 0,
            replicas=row.replicas,
            spread=row.replica_placement == "spread",
            organization_id=row.organization_id if shared else None,
            max_runtime=row.max_runtime_seconds or math.inf,
            eligible_since=(row.queued_at or row.created_at).timestamp(),
        )
        pending[row.id] = Pending(row.generation, row.name, row.priority, row.reason)
    return pending


async def _add_nominations(
    session: ReadSession, builder: SnapshotBuilder, cluster_id: int, pending: Mapping[int, Pending]
) -> None:
    for row in await session.scalars(_NOMINATIONS, {"cluster_id": cluster_id}):
        if row.deployment_id in pending:
            builder.nominate(row.deployment_id, row.node_id, row.gpu_indices, replica=row.replica)


# Built once: every pass of the scheduler runs these.
_CORDONED_ENGINES = select(EngineState.runtime, EngineState.endpoint).where(
    EngineState.cordoned_since.is_not(None)
)
_CLUSTER = select(Cluster).where(Cluster.id == bindparam("cluster_id"))
_NODES = select(Node).where(Node.cluster_id == bindparam("cluster_id"))
_NOMINATIONS = select(NominationRow).where(NominationRow.cluster_id == bindparam("cluster_id"))
_ALLOCATIONS = (
    select(
        Allocation.attempt_id,
        Allocation.deployment_id,
        Allocation.node_id,
        Allocation.cpu_milli,
        Allocation.ram_mib,
        Attempt.gpu_indices,
        Attempt.gpu_milli_per_device,
        Attempt.created_at,
        Attempt.started_at,
        Attempt.checkpoint_at,
        Attempt.stop_requested_at,
        Deployment.priority,
        Deployment.preemptible,
        Deployment.min_runtime_seconds,
        Deployment.max_runtime_seconds,
        Deployment.organization_id,
    )
    .join(Attempt, Attempt.id == Allocation.attempt_id)
    .join(Deployment, Deployment.id == Allocation.deployment_id)
    .where(Allocation.cluster_id == bindparam("cluster_id"))
)
_QUEUED = select(
    Deployment.id,
    Deployment.name,
    Deployment.generation,
    Deployment.reason,
    Deployment.cpu_milli,
    Deployment.ram_mib,
    Deployment.gpu_milli,
    Deployment.placement_limits,
    Deployment.priority,
    Deployment.created_at,
    Deployment.preemptible,
    Deployment.min_runtime_seconds,
    Deployment.replicas,
    Deployment.replica_placement,
    Deployment.max_runtime_seconds,
    Deployment.organization_id,
    Deployment.queued_at,
).where(Deployment.cluster_id == bindparam("cluster_id"), IS_QUEUED)


def _smaller(capacity: int, target: int | None) -> int:
    return capacity if target is None else min(capacity, target)
