"""The second step of a decision: one short transaction that re-checks a plan and makes it true.

In order: the lease epoch is held, deployments and then nodes are locked in id order, what is held is summed
again, and every placement is checked against that. What no longer fits, or has changed since the
snapshot, is rejected whole (an eviction together with the placement that it was for) and planned anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, select

from hypervisor.control.allocations.capacity import NodeCapacity, allocate, lock_nodes, reserve, restore
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
    """What became true: instances to start, instances to stop, deployments whose part was rejected.

    `placed` are the deployments whose instances start; `evicted_by` has the rule for each victim.
    """

    started: list[str] = field(default_factory=list)
    stopping: list[str] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    placed: list[Deployment] = field(default_factory=list)
    evicted_by: list[PreemptionRule] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """Everything that one commit has locked."""

    session: WriteSession
    view: ClusterView
    plan: Plan
    install: str
    now: datetime
    deployments: dict[int, Deployment]
    live: dict[int, list[Attempt]]
    """The live attempts of each victim."""
    rooms: dict[int, NodeCapacity]
    result: Committed = field(default_factory=Committed)


async def commit_plan(
    session: WriteSession, view: ClusterView, plan: Plan, *, fence: Fence, install: str, now: datetime
) -> Committed:
    """Apply a plan. Raises StaleEpoch when another scheduler has taken over; nothing is written then."""
    await check_epoch(session, fence.lease, fence.epoch)
    reached("plan_before_lock")
    work = await _lock(session, view, plan, install, now)
    reached("plan_after_lock")
    await _place(work)
    await _evict(work)
    await _keep_nominations(work)
    reached("plan_before_commit")
    return work.result


async def _lock(session: WriteSession, view: ClusterView, plan: Plan, install: str, now: datetime) -> _Work:
    """Lock whatever the plan touches: deployments, their live attempts, nodes; each in id order."""
    touched = {p.deployment_id for p in plan.placements}
    touched |= {e.deployment_id for e in plan.evictions} | {e.preemptor_id for e in plan.evictions}
    deployments: dict[int, Deployment] = {}
    for chunk in chunks(sorted(touched)):
        rows = await session.scalars(
            select(Deployment).where(Deployment.id.in_(chunk)).order_by(Deployment.id).with_for_update()
        )
        deployments.update((row.id, row) for row in rows)
    live = await live_attempts(session, {e.deployment_id for e in plan.evictions})
    nodes = {p.node_id for p in plan.placements} | {e.node_id for e in plan.evictions}
    preemptors = {e.preemptor_id for e in plan.evictions}
    nodes |= {n.node_id for n in plan.nominations if n.deployment_id in preemptors}
    rooms = await lock_nodes(session, nodes)
    return _Work(session, view, plan, install, now, deployments, live, rooms)


async def _place(work: _Work) -> None:
    accepted: list[tuple[Deployment, list[tuple[NodeCapacity, Attempt]]]] = []
    for deployment_id, placements in _by_deployment(work.plan.placements).items():
        deployment = _unchanged(work, deployment_id)
        if deployment is None or not _take_room(work, deployment, placements):
            work.result.rejected.append(deployment_id)
            continue
        deployment.attempts_made += 1
        rooms = [work.rooms[placement.node_id] for placement in placements]
        attempts = [
            _new_attempt(work, placement, deployment, room)
            for placement, room in zip(placements, rooms, strict=True)
        ]
        work.session.add_all(attempts)
        _mark_starting(work, deployment, attempts)
        accepted.append((deployment, list(zip(rooms, attempts, strict=True))))
    # One flush for all of them: a claim needs the id of its attempt.
    await work.session.flush()
    for deployment, started in accepted:
        for room, attempt in started:
            allocate(work.session, room, deployment, attempt)
    await _drop_nominations(work, [deployment.id for deployment, _ in accepted])


def _by_deployment(placements: Iterable[Placement]) -> dict[int, list[Placement]]:
    """The replicas of each deployment, in the order of the plan."""
    grouped: dict[int, list[Placement]] = defaultdict(list)
    for placement in placements:
        grouped[placement.deployment_id].append(placement)
    return grouped


def _take_room(work: _Work, deployment: Deployment, placements: Sequence[Placement]) -> bool:
    """Count all replicas in their rooms, or none of them if one does not fit any more."""
    if len(placements) != deployment.replicas:
        return False
    taken: list[Placement] = []
    for placement in placements:
        room = work.rooms.get(placement.node_id)
        if room is None or not room.schedulable or room.misfit(deployment, placement.gpu_indices):
            for earlier in taken:
                restore(work.rooms[earlier.node_id], deployment, earlier.gpu_indices)
            return False
        reserve(room, deployment, placement.gpu_indices)
        taken.append(placement)
    return True


def _unchanged(work: _Work, deployment_id: int) -> Deployment | None:
    """The locked deployment if it still is what the snapshot saw waiting."""
    deployment = work.deployments.get(deployment_id)
    seen = work.view.pending.get(deployment_id)
    if deployment is None or seen is None or deployment.generation != seen.generation:
        return None
    return deployment if deployment.state == State.QUEUED.value else None


def _new_attempt(work: _Work, placement: Placement, deployment: Deployment, room: NodeCapacity) -> Attempt:
    number = deployment.attempts_made
    return Attempt(
        deployment_id=deployment.id,
        organization_id=deployment.organization_id,
        cluster_id=deployment.cluster_id,
        node_id=room.node.id,
        node_name=room.node.name,
        number=number,
        replica=placement.replica,
        runtime=work.view.runtime,
        engine_endpoint=room.node.engine_endpoint,
        instance=str(InstanceName(work.install, deployment.id, number, placement.replica)),
        gpu_indices=list(placement.gpu_indices),
        gpu_milli_per_device=min(deployment.gpu_milli, WHOLE_GPU),
        created_at=work.now,
    )


def _mark_starting(work: _Work, deployment: Deployment, attempts: Sequence[Attempt]) -> None:
    first = attempts[0]
    data: dict[str, object] = {
        "attempt": first.number,
        "node": first.node_name,
        "gpu_indices": first.gpu_indices,
    }
    if len(attempts) > 1:
        data["replicas"] = [
            {"replica": one.replica, "node": one.node_name, "gpu_indices": one.gpu_indices}
            for one in attempts
        ]
    move(
        work.session,
        deployment,
        State.STARTING,
        now=work.now,
        actor=SCHEDULER,
        code="placed",
        sentence=_where(attempts),
        data=data,
    )
    work.result.started += [attempt.instance for attempt in attempts]
    work.result.placed.append(deployment)


def _where(attempts: Sequence[Attempt]) -> str:
    if len(attempts) > 1:
        nodes = ", ".join(dict.fromkeys(attempt.node_name for attempt in attempts))
        return f"starts {len(attempts)} replicas on {nodes}"
    (attempt,) = attempts
    gpus = f", GPU {', '.join(map(str, attempt.gpu_indices))}" if attempt.gpu_indices else ""
    return f"starts on {attempt.node_name}{gpus}"


async def _evict(work: _Work) -> None:
    """Ask victims to stop, one preemptor at a time: all of its victims or none."""
    nominations: dict[int, list[Nomination]] = defaultdict(list)
    for nomination in work.plan.nominations:
        nominations[nomination.deployment_id].append(nomination)
    by_preemptor: dict[int, list[Eviction]] = defaultdict(list)
    for eviction in work.plan.evictions:
        by_preemptor[eviction.preemptor_id].append(eviction)
    for preemptor_id, evictions in by_preemptor.items():
        preemptor, places = _unchanged(work, preemptor_id), nominations[preemptor_id]
        if (
            preemptor is None
            or len(places) != preemptor.replicas
            or not _still_open(work, places)
            or not _still_evictable(work, preemptor, evictions)
        ):
            work.result.rejected.append(preemptor_id)
            continue
        for nomination in places:
            await _nominate(work, nomination)
        victims = _by_victim(evictions)
        for victim_id, parts in victims.items():
            _stop_victim(work, preemptor, victim_id, parts)
        reached("preempt_after_victims_before_reserve")
        record_preemption(
            work.session,
            preemptor,
            [(parts, work.deployments[victim_id]) for victim_id, parts in victims.items()],
            await _spared_names(work, preemptor),
            node_names=list(dict.fromkeys(work.rooms[place.node_id].node.name for place in places)),
            now=work.now,
        )
        await _note_frozen(work, preemptor, victims)


async def _note_frozen(work: _Work, preemptor: Deployment, victim_ids: Iterable[int]) -> None:
    """Say so on both sides when a pair has evicted each other too often to go on with it."""
    await work.session.flush()
    for victim_id in victim_ids:
        if await is_ping_pong(work.session, preemptor.id, victim_id, work.now):
            record_ping_pong(work.session, preemptor, work.deployments[victim_id], now=work.now)


def _by_victim(evictions: Iterable[Eviction]) -> dict[int, list[Eviction]]:
    """The allocations that each victim loses: one a replica."""
    grouped: dict[int, list[Eviction]] = defaultdict(list)
    for eviction in evictions:
        grouped[eviction.deployment_id].append(eviction)
    return grouped


def _still_open(work: _Work, places: Iterable[Nomination]) -> bool:
    rooms = [work.rooms.get(place.node_id) for place in places]
    return all(room is not None and room.schedulable for room in rooms)


def _still_evictable(work: _Work, preemptor: Deployment, evictions: Sequence[Eviction]) -> bool:
    for victim_id, parts in _by_victim(evictions).items():
        victim, live = work.deployments.get(victim_id), work.live.get(victim_id, [])
        if victim is None or {attempt.id for attempt in live} != {part.allocation_id for part in parts}:
            return False
        if any(attempt.stop_requested_at is not None for attempt in live):
            return False
        if not victim.preemptible or not _may_evict(work, preemptor, victim, parts[0].rule):
            return False
    return True


def _may_evict(work: _Work, preemptor: Deployment, victim: Deployment, rule: PreemptionRule) -> bool:
    """Only what an organization has lent comes back to it whatever the priorities."""
    if preemptor.organization_id != victim.organization_id and rule is PreemptionRule.RECLAIM:
        return True
    priority = work.view.priority_of(preemptor.id, preemptor.priority)
    return work.view.priority_of(victim.id, victim.priority) < priority


def _stop_victim(work: _Work, preemptor: Deployment, victim_id: int, parts: Sequence[Eviction]) -> None:
    attempts, victim = work.live[victim_id], work.deployments[victim_id]
    request_stop(
        work.session,
        victim,
        attempts,
        StopReason.PREEMPTED,
        now=work.now,
        actor=SCHEDULER,
        sentence=f"gives way to {redacted_for(victim, preemptor)} of priority {preemptor.priority}",
        preempted_by=preemptor.id,
        data={
            "preemptor": preemptor.id if victim.organization_id == preemptor.organization_id else None,
            "rule": parts[0].rule.value,
            "lost_work_seconds": sum(part.lost_work for part in parts),
        },
    )
    victim.preemptions += 1
    work.result.stopping += [attempt.instance for attempt in attempts]
    work.result.evicted_by.append(parts[0].rule)


async def _spared_names(work: _Work, preemptor: Deployment) -> list[tuple[int, str, str]]:
    """Those of its own organization that were spared: who else is there is not its business."""
    spared = work.plan.reprieved.get(preemptor.id, ())
    if not spared:
        return []
    why = {item.deployment_id: item.why for item in spared}
    rows = await work.session.execute(
        select(Deployment.id, Deployment.name)
        .where(Deployment.id.in_(list(why)[:100]), Deployment.organization_id == preemptor.organization_id)
        .order_by(Deployment.id)
    )
    return [(id_, name, why[id_]) for id_, name in rows]


async def _keep_nominations(work: _Work) -> None:
    """Bring the stored nominations to those of the plan: new ones without victims in, stale ones out."""
    kept = {n.deployment_id for n in work.plan.nominations}
    stale = [n.deployment_id for n in work.view.snapshot.nominations if n.deployment_id not in kept]
    await _drop_nominations(work, stale)
    known = set(work.view.snapshot.nominations)
    preemptors = {e.preemptor_id for e in work.plan.evictions}
    for nomination in work.plan.nominations:
        if nomination not in known and nomination.deployment_id not in preemptors:
            await _nominate(work, nomination)


async def _nominate(work: _Work, nomination: Nomination) -> None:
    await work.session.merge(
        NominationRow(
            deployment_id=nomination.deployment_id,
            replica=nomination.replica,
            cluster_id=work.view.cluster_id,
            node_id=nomination.node_id,
            gpu_indices=list(nomination.gpu_indices),
            created_at=work.now,
        )
    )


async def _drop_nominations(work: _Work, deployment_ids: Iterable[int]) -> None:
    stored: Collection[int] = {n.deployment_id for n in work.view.snapshot.nominations}
    for chunk in chunks(sorted(set(deployment_ids) & set(stored))):
        await work.session.execute(delete(NominationRow).where(NominationRow.deployment_id.in_(chunk)))
