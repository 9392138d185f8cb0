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

from hypervisor.control.capacity import NodeRoom, claim, lock_rooms, reserve
from hypervisor.control.receipts import record_preemption
from hypervisor.control.snapshots import ClusterView
from hypervisor.deployments.dependents import chunks
from hypervisor.deployments.stopping import request_stop
from hypervisor.deployments.transitions import move
from hypervisor.events.log import SCHEDULER
from hypervisor.kernel.names import InstanceName
from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.lifecycle.states import State
from hypervisor.scheduling.outcome import Eviction, Placement, Plan
from hypervisor.scheduling.snapshot import Nomination
from hypervisor.store.database import WriteSession
from hypervisor.store.leases import check_epoch
from hypervisor.store.tables import Attempt, Deployment, NominationRow


@dataclass(frozen=True, slots=True)
class Fence:
    """The lease under which a plan was made."""

    lease: str
    epoch: int


@dataclass(slots=True)
class Committed:
    """What became true: instances to start, instances to stop, deployments whose part was rejected."""

    started: list[str] = field(default_factory=list)
    stopping: list[str] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """Everything that one commit has locked."""

    session: WriteSession
    view: ClusterView
    plan: Plan
    install: str
    now: datetime
    deployments: dict[int, Deployment]
    attempts: dict[int, Attempt]
    rooms: dict[int, NodeRoom]
    result: Committed = field(default_factory=Committed)


async def commit_plan(
    session: WriteSession, view: ClusterView, plan: Plan, *, fence: Fence, install: str, now: datetime
) -> Committed:
    """Apply a plan. Raises StaleEpoch when another scheduler has taken over; nothing is written then."""
    await check_epoch(session, fence.lease, fence.epoch)
    work = await _lock(session, view, plan, install, now)
    await _place(work)
    await _evict(work)
    await _keep_nominations(work)
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
    attempts: dict[int, Attempt] = {}
    for chunk in chunks(sorted(e.allocation_id for e in plan.evictions)):
        victims = await session.scalars(
            select(Attempt).where(Attempt.id.in_(chunk)).order_by(Attempt.id).with_for_update()
        )
        attempts.update((row.id, row) for row in victims)
    nodes = {p.node_id for p in plan.placements} | {e.node_id for e in plan.evictions}
    rooms = await lock_rooms(session, nodes)
    return _Work(session, view, plan, install, now, deployments, attempts, rooms)


async def _place(work: _Work) -> None:
    accepted: list[tuple[Placement, Deployment, Attempt]] = []
    for placement in work.plan.placements:
        deployment = _unchanged(work, placement.deployment_id)
        room = work.rooms.get(placement.node_id)
        if deployment is None or room is None or not room.schedulable:
            work.result.rejected.append(placement.deployment_id)
            continue
        if room.misfit(deployment, placement.gpu_indices):
            work.result.rejected.append(placement.deployment_id)
            continue
        reserve(room, deployment, placement.gpu_indices)
        accepted.append((placement, deployment, _new_attempt(work, placement, deployment, room)))
    work.session.add_all(attempt for _, _, attempt in accepted)
    await work.session.flush()
    for placement, deployment, attempt in accepted:
        claim(work.session, work.rooms[placement.node_id], deployment, attempt)
        _mark_starting(work, deployment, attempt)
    await _drop_nominations(work, [deployment.id for _, deployment, _ in accepted])


def _unchanged(work: _Work, deployment_id: int) -> Deployment | None:
    """The locked deployment if it still is what the snapshot saw waiting."""
    deployment = work.deployments.get(deployment_id)
    seen = work.view.pending.get(deployment_id)
    if deployment is None or seen is None or deployment.generation != seen.generation:
        return None
    return deployment if deployment.state == State.QUEUED.value else None


def _new_attempt(work: _Work, placement: Placement, deployment: Deployment, room: NodeRoom) -> Attempt:
    deployment.attempts_made += 1
    number = deployment.attempts_made
    return Attempt(
        deployment_id=deployment.id,
        organization_id=deployment.organization_id,
        cluster_id=deployment.cluster_id,
        node_id=room.node.id,
        node_name=room.node.name,
        number=number,
        replica=0,
        runtime=work.view.runtime,
        engine_endpoint=room.node.engine_endpoint,
        instance=str(InstanceName(work.install, deployment.id, number)),
        gpu_indices=list(placement.gpu_indices),
        gpu_each=min(deployment.gpu_milli, WHOLE_GPU),
        created_at=work.now,
    )


def _mark_starting(work: _Work, deployment: Deployment, attempt: Attempt) -> None:
    gpus = f", GPU {', '.join(map(str, attempt.gpu_indices))}" if attempt.gpu_indices else ""
    move(
        work.session,
        deployment,
        State.STARTING,
        now=work.now,
        actor=SCHEDULER,
        code="placed",
        sentence=f"starts on {attempt.node_name}{gpus}",
        data={"attempt": attempt.number, "node": attempt.node_name, "gpu_indices": attempt.gpu_indices},
    )
    work.result.started.append(attempt.instance)


async def _evict(work: _Work) -> None:
    """Ask victims to stop, one preemptor at a time: all of its victims or none."""
    nominations = {n.deployment_id: n for n in work.plan.nominations}
    by_preemptor: dict[int, list[Eviction]] = defaultdict(list)
    for eviction in work.plan.evictions:
        by_preemptor[eviction.preemptor_id].append(eviction)
    for preemptor_id, evictions in by_preemptor.items():
        preemptor = _unchanged(work, preemptor_id)
        nomination = nominations.get(preemptor_id)
        if preemptor is None or nomination is None or not _still_evictable(work, preemptor, evictions):
            work.result.rejected.append(preemptor_id)
            continue
        await _nominate(work, nomination)
        for eviction in evictions:
            _stop_victim(work, preemptor, eviction)
        record_preemption(
            work.session,
            preemptor,
            [(eviction, work.deployments[eviction.deployment_id]) for eviction in evictions],
            await _spared_names(work, preemptor_id),
            node_name=work.rooms[nomination.node_id].node.name,
            now=work.now,
        )


def _still_evictable(work: _Work, preemptor: Deployment, evictions: Sequence[Eviction]) -> bool:
    for eviction in evictions:
        attempt = work.attempts.get(eviction.allocation_id)
        victim = work.deployments.get(eviction.deployment_id)
        room = work.rooms.get(eviction.node_id)
        if attempt is None or victim is None or room is None or not room.schedulable:
            return False
        if attempt.finished_at is not None or attempt.stop_requested_at is not None:
            return False
        if not victim.preemptible or victim.priority >= preemptor.priority:
            return False
    return True


def _stop_victim(work: _Work, preemptor: Deployment, eviction: Eviction) -> None:
    attempt = work.attempts[eviction.allocation_id]
    request_stop(
        work.session,
        work.deployments[eviction.deployment_id],
        attempt,
        StopReason.PREEMPTED,
        now=work.now,
        actor=SCHEDULER,
        sentence=f"gives way to {preemptor.name} ({preemptor.id}) of priority {preemptor.priority}",
        preempted_by=preemptor.id,
        data={"preemptor": preemptor.id, "rule": eviction.rule, "lost_work_seconds": eviction.lost_work},
    )
    work.deployments[eviction.deployment_id].preemptions += 1
    work.result.stopping.append(attempt.instance)


async def _spared_names(work: _Work, preemptor_id: int) -> list[tuple[int, str, str]]:
    spared = work.plan.spared.get(preemptor_id, ())
    if not spared:
        return []
    why = {item.deployment_id: item.why for item in spared}
    rows = await work.session.execute(
        select(Deployment.id, Deployment.name)
        .where(Deployment.id.in_(list(why)[:100]))
        .order_by(Deployment.id)
    )
    return [(id_, name, why[id_]) for id_, name in rows]


async def _keep_nominations(work: _Work) -> None:
    """Bring the stored nominations to those of the plan: new ones without victims in, stale ones out."""
    kept = {n.deployment_id for n in work.plan.nominations}
    stale = [n.deployment_id for n in work.view.snapshot.nominations if n.deployment_id not in kept]
    await _drop_nominations(work, stale)
    known = {(n.deployment_id, n.node_id, n.gpu_indices) for n in work.view.snapshot.nominations}
    preemptors = {e.preemptor_id for e in work.plan.evictions}
    for nomination in work.plan.nominations:
        unchanged = (nomination.deployment_id, nomination.node_id, nomination.gpu_indices) in known
        if not unchanged and nomination.deployment_id not in preemptors:
            await _nominate(work, nomination)


async def _nominate(work: _Work, nomination: Nomination) -> None:
    await work.session.merge(
        NominationRow(
            deployment_id=nomination.deployment_id,
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
