"""The second step of a decision: one short transaction that re-checks a plan and applies it.

In order: the lease epoch is locked, deployments and then nodes are locked in id order, the use of the nodes
is summed again, and every placement is checked against it and against its dependencies. The part of the plan
for a deployment that changed, lost a dependency or no longer fits is rejected (evictions together with their
preemptor); the deployment is planned again or blocked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, select

from hypervisor.control.allocations.capacity import NodeCapacity, allocate, lock_nodes, reserve, unreserve
from hypervisor.control.scheduler.conditions import Conditions, lock_with_conditions
from hypervisor.control.scheduler.preemption_records import record_ping_pong, record_preemption, redacted_for
from hypervisor.control.scheduler.quotas import is_ping_pong
from hypervisor.control.scheduler.snapshot_loader import ClusterView
from hypervisor.deployments.state.stop import live_attempts, request_stop
from hypervisor.deployments.state.transitions import move
from hypervisor.events.log import SCHEDULER
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.names import InstanceName
from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.lifecycle.states import State
from hypervisor.scheduling.plan_result import Eviction, Placement, Plan, PreemptionRule
from hypervisor.scheduling.snapshots.snapshot import Nomination
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.leases import Fence, check_epoch
from hypervisor.store.tables import Attempt, Deployment, NominationRow


@dataclass(slots=True)
class Committed:
    """The result: instances to start, instances to stop with their deployments (`evicted`), deployments whose
    part of the plan was rejected.

    `placed` are the deployments whose instances start; `evicted_by` has the rule for each victim.
    """

    started: list[str] = field(default_factory=list)
    stopping: list[str] = field(default_factory=list)
    evicted: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    placed: list[Deployment] = field(default_factory=list)
    evicted_by: list[PreemptionRule] = field(default_factory=list)


@dataclass(slots=True)
class _Commit:
    """The rows that one commit has locked, and its result."""

    session: WriteSession
    view: ClusterView
    plan: Plan
    install: str
    now: datetime
    deployments: dict[int, Deployment]
    live: dict[int, list[Attempt]]
    """The live attempts of each victim."""
    capacities: dict[int, NodeCapacity]
    conditions: Conditions
    result: Committed = field(default_factory=Committed)


async def commit_plan(
    session: WriteSession, view: ClusterView, plan: Plan, *, fence: Fence, install: str, now: datetime
) -> Committed:
    """Apply a plan. Raises StaleEpoch when another server has acquired the lease; nothing is written then."""
    await check_epoch(session, fence.lease, fence.epoch)
    reached("plan_before_lock")
    commit = await _lock(session, view, plan, install, now)
    reached("plan_after_lock")
    await _place(commit)
    await _evict(commit)
    await _sync_nominations(commit)
    await commit.conditions.settle(session, commit.deployments, commit.result.evicted, now)
    reached("plan_before_commit")
    return commit.result


async def _lock(session: WriteSession, view: ClusterView, plan: Plan, install: str, now: datetime) -> _Commit:
    """Lock the deployments of the plan, their live attempts and the nodes, each in id order."""
    preemptors, victims = (
        {e.preemptor_id for e in plan.evictions},
        {e.deployment_id for e in plan.evictions},
    )
    pending = (
        preemptors | {p.deployment_id for p in plan.placements} | {n.deployment_id for n in _new(view, plan)}
    )
    deployments, conditions = await lock_with_conditions(session, pending, victims)
    live = await live_attempts(session, victims)
    nodes = {p.node_id for p in plan.placements} | {e.node_id for e in plan.evictions}
    nodes |= {n.node_id for n in plan.nominations if n.deployment_id in preemptors}
    capacities = await lock_nodes(session, nodes)
    return _Commit(session, view, plan, install, now, deployments, live, capacities, conditions)


def _new(view: ClusterView, plan: Plan) -> list[Nomination]:
    """The nominations that are not stored yet."""
    stored = set(view.snapshot.nominations)
    return [nomination for nomination in plan.nominations if nomination not in stored]


async def _place(commit: _Commit) -> None:
    accepted: list[tuple[Deployment, list[tuple[NodeCapacity, Attempt]]]] = []
    for deployment_id, placements in _by_deployment(commit.plan.placements).items():
        deployment = _unchanged(commit, deployment_id)
        if deployment is None or not _reserve_all(commit, deployment, placements):
            commit.result.rejected.append(deployment_id)
            continue
        deployment.attempts_made += 1
        capacities = [commit.capacities[placement.node_id] for placement in placements]
        attempts = [
            _new_attempt(commit, placement, deployment, capacity)
            for placement, capacity in zip(placements, capacities, strict=True)
        ]
        commit.session.add_all(attempts)
        _mark_starting(commit, deployment, attempts)
        accepted.append((deployment, list(zip(capacities, attempts, strict=True))))
    # One flush for all: an allocation needs the id of its attempt.
    await commit.session.flush()
    for deployment, started in accepted:
        for capacity, attempt in started:
            allocate(commit.session, capacity, deployment, attempt)
    await _drop_nominations(commit, [deployment.id for deployment, _ in accepted])


def _by_deployment(placements: Iterable[Placement]) -> dict[int, list[Placement]]:
    """The replicas of each deployment, in the order of the plan."""
    grouped: dict[int, list[Placement]] = defaultdict(list)
    for placement in placements:
        grouped[placement.deployment_id].append(placement)
    return grouped


def _reserve_all(commit: _Commit, deployment: Deployment, placements: Sequence[Placement]) -> bool:
    """Reserve capacity for all replicas, or for none if one no longer fits."""
    if len(placements) != deployment.replicas:
        return False
    reserved: list[Placement] = []
    for placement in placements:
        capacity = commit.capacities.get(placement.node_id)
        if capacity is None or not capacity.schedulable or capacity.misfit(deployment, placement.gpu_indices):
            for earlier in reserved:
                unreserve(commit.capacities[earlier.node_id], deployment, earlier.gpu_indices)
            return False
        reserve(capacity, deployment, placement.gpu_indices)
        reserved.append(placement)
    return True


def _unchanged(commit: _Commit, deployment_id: int) -> Deployment | None:
    """The locked deployment if it is still queued, unchanged since the snapshot, and may start."""
    deployment = commit.deployments.get(deployment_id)
    pending = commit.view.pending.get(deployment_id)
    if deployment is None or pending is None or deployment.generation != pending.generation:
        return None
    may_start = deployment.state == State.QUEUED.value and commit.conditions.hold(deployment_id)
    return deployment if may_start else None


def _new_attempt(
    commit: _Commit, placement: Placement, deployment: Deployment, capacity: NodeCapacity
) -> Attempt:
    number = deployment.attempts_made
    return Attempt(
        deployment_id=deployment.id,
        organization_id=deployment.organization_id,
        cluster_id=deployment.cluster_id,
        node_id=capacity.node.id,
        node_name=capacity.node.name,
        number=number,
        replica=placement.replica,
        runtime=commit.view.runtime,
        engine_endpoint=capacity.node.engine_endpoint,
        instance=str(InstanceName(commit.install, deployment.id, number, placement.replica)),
        gpu_indices=list(placement.gpu_indices),
        gpu_milli_per_device=min(deployment.gpu_milli, WHOLE_GPU),
        created_at=commit.now,
    )


def _mark_starting(commit: _Commit, deployment: Deployment, attempts: Sequence[Attempt]) -> None:
    first = attempts[0]
    data: dict[str, object] = {
        "attempt": first.number,
        "node": first.node_name,
        "gpu_indices": first.gpu_indices,
    }
    if len(attempts) > 1:
        data["replicas"] = [
            {"replica": attempt.replica, "node": attempt.node_name, "gpu_indices": attempt.gpu_indices}
            for attempt in attempts
        ]
    move(
        commit.session,
        deployment,
        State.STARTING,
        now=commit.now,
        actor=SCHEDULER,
        code="placed",
        sentence=_where(attempts),
        data=data,
    )
    commit.result.started += [attempt.instance for attempt in attempts]
    commit.result.placed.append(deployment)


def _where(attempts: Sequence[Attempt]) -> str:
    if len(attempts) > 1:
        nodes = ", ".join(dict.fromkeys(attempt.node_name for attempt in attempts))
        return f"starts {len(attempts)} replicas on {nodes}"
    (attempt,) = attempts
    gpus = f", GPU {', '.join(map(str, attempt.gpu_indices))}" if attempt.gpu_indices else ""
    return f"starts on {attempt.node_name}{gpus}"


async def _evict(commit: _Commit) -> None:
    """Request the stop of the victims, one preemptor at a time: all of its victims or none."""
    nominations: dict[int, list[Nomination]] = defaultdict(list)
    for nomination in commit.plan.nominations:
        nominations[nomination.deployment_id].append(nomination)
    by_preemptor: dict[int, list[Eviction]] = defaultdict(list)
    for eviction in commit.plan.evictions:
        by_preemptor[eviction.preemptor_id].append(eviction)
    for preemptor_id, evictions in by_preemptor.items():
        preemptor, own_nominations = _unchanged(commit, preemptor_id), nominations[preemptor_id]
        if (
            preemptor is None
            or len(own_nominations) != preemptor.replicas
            or not _still_schedulable(commit, own_nominations)
            or not _still_evictable(commit, preemptor, evictions)
        ):
            commit.result.rejected.append(preemptor_id)
            continue
        await _preempt(commit, preemptor, own_nominations, evictions)


async def _preempt(
    commit: _Commit, preemptor: Deployment, nominations: Sequence[Nomination], evictions: Sequence[Eviction]
) -> None:
    """Store the nominations of a preemptor, request the stop of its victims and record the preemption."""
    for nomination in nominations:
        await _nominate(commit, nomination)
    victims = _by_victim(evictions)
    for victim_id, parts in victims.items():
        _stop_victim(commit, preemptor, victim_id, parts)
    reached("preempt_after_victims_before_reserve")
    nodes = [commit.capacities[nomination.node_id].node.name for nomination in nominations]
    record_preemption(
        commit.session,
        preemptor,
        [(parts, commit.deployments[victim_id]) for victim_id, parts in victims.items()],
        await _reprieved_names(commit, preemptor),
        node_names=list(dict.fromkeys(nodes)),
        now=commit.now,
    )
    await _record_ping_pong(commit, preemptor, victims)


async def _record_ping_pong(commit: _Commit, preemptor: Deployment, victim_ids: Iterable[int]) -> None:
    """Record on both sides when a preemption made a ping-pong pair."""
    await commit.session.flush()
    for victim_id in victim_ids:
        if await is_ping_pong(commit.session, preemptor.id, victim_id, commit.now):
            record_ping_pong(commit.session, preemptor, commit.deployments[victim_id], now=commit.now)


def _by_victim(evictions: Iterable[Eviction]) -> dict[int, list[Eviction]]:
    """The evicted allocations of each victim, one per replica."""
    grouped: dict[int, list[Eviction]] = defaultdict(list)
    for eviction in evictions:
        grouped[eviction.deployment_id].append(eviction)
    return grouped


def _still_schedulable(commit: _Commit, own_nominations: Iterable[Nomination]) -> bool:
    capacities = [commit.capacities.get(nomination.node_id) for nomination in own_nominations]
    return all(capacity is not None and capacity.schedulable for capacity in capacities)


def _still_evictable(commit: _Commit, preemptor: Deployment, evictions: Sequence[Eviction]) -> bool:
    for victim_id, parts in _by_victim(evictions).items():
        victim, live = commit.deployments.get(victim_id), commit.live.get(victim_id, [])
        if victim is None or {attempt.id for attempt in live} != {part.allocation_id for part in parts}:
            return False
        if any(attempt.stop_requested_at is not None for attempt in live):
            return False
        if not victim.preemptible or not _may_evict(commit, preemptor, victim, parts[0].rule):
            return False
    return True


def _may_evict(commit: _Commit, preemptor: Deployment, victim: Deployment, rule: PreemptionRule) -> bool:
    """Whether the priorities permit the eviction; a reclaim across organizations ignores them."""
    if preemptor.organization_id != victim.organization_id and rule is PreemptionRule.RECLAIM:
        return True
    priority = commit.view.priority_of(preemptor.id, preemptor.priority)
    return commit.view.priority_of(victim.id, victim.priority) < priority


def _stop_victim(commit: _Commit, preemptor: Deployment, victim_id: int, parts: Sequence[Eviction]) -> None:
    attempts, victim = commit.live[victim_id], commit.deployments[victim_id]
    request_stop(
        commit.session,
        victim,
        attempts,
        StopReason.PREEMPTED,
        now=commit.now,
        actor=SCHEDULER,
        sentence=f"is preempted by {redacted_for(victim, preemptor)} of priority {preemptor.priority}",
        preempted_by=preemptor.id,
        data={
            "preemptor": preemptor.id if victim.organization_id == preemptor.organization_id else None,
            "rule": parts[0].rule.value,
            "lost_work_seconds": sum(part.lost_work for part in parts),
        },
    )
    victim.preemptions += 1
    commit.result.evicted.append(victim_id)
    commit.result.stopping += [attempt.instance for attempt in attempts]
    commit.result.evicted_by.append(parts[0].rule)


async def _reprieved_names(commit: _Commit, preemptor: Deployment) -> list[tuple[int, str, str]]:
    """The reprieved deployments of the preemptor's organization; it must not see others."""
    reprieved = commit.plan.reprieved.get(preemptor.id, ())
    if not reprieved:
        return []
    reasons = {item.deployment_id: item.why for item in reprieved}
    rows = await commit.session.execute(
        select(Deployment.id, Deployment.name)
        .where(
            Deployment.id.in_(list(reasons)[:100]), Deployment.organization_id == preemptor.organization_id
        )
        .order_by(Deployment.id)
    )
    return [(id_, name, reasons[id_]) for id_, name in rows]


async def _sync_nominations(commit: _Commit) -> None:
    """Synchronize the stored nominations with the plan: add those without victims, delete stale ones."""
    planned = {n.deployment_id for n in commit.plan.nominations}
    stale = [n.deployment_id for n in commit.view.snapshot.nominations if n.deployment_id not in planned]
    await _drop_nominations(commit, stale)
    preemptors = {e.preemptor_id for e in commit.plan.evictions}
    for nomination in _new(commit.view, commit.plan):
        if nomination.deployment_id not in preemptors and _unchanged(commit, nomination.deployment_id):
            await _nominate(commit, nomination)


async def _nominate(commit: _Commit, nomination: Nomination) -> None:
    await commit.session.merge(
        NominationRow(
            deployment_id=nomination.deployment_id,
            replica=nomination.replica,
            cluster_id=commit.view.cluster_id,
            node_id=nomination.node_id,
            gpu_indices=list(nomination.gpu_indices),
            created_at=commit.now,
        )
    )


async def _drop_nominations(commit: _Commit, deployment_ids: Iterable[int]) -> None:
    stored: Collection[int] = {n.deployment_id for n in commit.view.snapshot.nominations}
    for chunk in chunks(sorted(set(deployment_ids) & set(stored))):
        await commit.session.execute(delete(NominationRow).where(NominationRow.deployment_id.in_(chunk)))
