"""The fragmentation of one cluster, proposed moves, and the move that an admin requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select

from hypervisor.clusters.occupants import Occupants
from hypervisor.clusters.policy import ClusterAccess
from hypervisor.control.allocations.capacity import lock_nodes
from hypervisor.control.scheduler.snapshot_loader import ClusterView, load_cluster
from hypervisor.deployments.access import repository
from hypervisor.errors import Conflict
from hypervisor.events.log import record_about
from hypervisor.identity.principal import Principal
from hypervisor.kernel.resources import MIB_PER_GIB, MILLI, WHOLE_GPU, Resources
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.planning.forecast_inputs import NamedRow, load_named
from hypervisor.planning.responses import (
    ConsolidationResponse,
    FragmentationResponse,
    MoveResponse,
    NamedDeployment,
    NodeRoomResponse,
    OpeningResponse,
    PlaceResponse,
    ShapeResponse,
)
from hypervisor.scheduling.defragmentation.consolidation import consolidate
from hypervisor.scheduling.defragmentation.fragmentation import Fragmentation, fragmentation
from hypervisor.scheduling.defragmentation.moves import Move, Opening, find_opening, target_for
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.store.database import Database, ReadSession, WriteSession
from hypervisor.store.tables import Allocation, Attempt, Deployment, NominationRow


async def report(
    database: Database, access: ClusterAccess, shape: Shape | None, now: datetime
) -> FragmentationResponse:
    """How the free capacity serves typical requests, and the moves that make room for `shape`."""
    async with database.read() as session:
        view = await _load(session, access, now)
        limits = await _limits(session, access.cluster_id)
    found, opening = await asyncio.to_thread(_compute, view, shape, limits)
    async with database.read() as session:
        named = await load_named(session, [one.deployment_id for one in opening.moves] if opening else ())
    return FragmentationResponse(
        shapes=_shapes(found),
        nodes=_nodes(found, _names(view)),
        opening=None if opening is None else _opening(opening, _names(view), named, access.principal),
    )


async def propose_moves(
    database: Database, access: ClusterAccess, steps: int, now: datetime
) -> ConsolidationResponse:
    """Few moves that let more of the queue start, found by a search of at most `steps` steps."""
    async with database.read() as session:
        view = await _load(session, access, now)
        limits = await _limits(session, access.cluster_id)
    found = await asyncio.to_thread(consolidate, view.snapshot, view.policy, steps, limits)
    ids = [one.deployment_id for one in found.moves] + [one.deployment_id for one in found.placements]
    async with database.read() as session:
        named = await load_named(session, ids)
    names = _names(view)
    return ConsolidationResponse(
        moves=[_move(one, names, named, access.principal) for one in found.moves],
        in_turn=found.in_turn,
        starts=[
            PlaceResponse(
                deployment=_shown(one.deployment_id, named, access.principal), node=names[one.node_id]
            )
            for one in found.placements
        ],
    )


async def execute_move(
    database: Database,
    access: ClusterAccess,
    occupants: Occupants,
    deployment_id: int,
    node_id: int,
    now: datetime,
) -> MoveResponse:
    """Drain one deployment and nominate it on the node. Raises Conflict when it may not run there."""
    async with database.read() as session:
        view = await _load(session, access, now)
        limits = await _limits(session, access.cluster_id)
    move = await asyncio.to_thread(target_for, view.snapshot, deployment_id, node_id, limits)
    if move is None:
        raise _immovable(deployment_id, node_id)
    await database.transact(lambda session: _drain(session, access, occupants, move, _names(view), now))
    async with database.read() as session:
        named = await load_named(session, [deployment_id])
    return _move(move, _names(view), named, access.principal)


def _compute(
    view: ClusterView, shape: Shape | None, limits: Mapping[int, Shape]
) -> tuple[Fragmentation, Opening | None]:
    opening = None if shape is None else find_opening(view.snapshot, shape, limits)
    return fragmentation(view.snapshot, view.policy), opening


async def _load(session: ReadSession, access: ClusterAccess, now: datetime) -> ClusterView:
    view = await load_cluster(session, access.cluster_id, now)
    if view is None:
        raise access.hidden
    return view


async def _limits(session: ReadSession, cluster_id: int) -> dict[int, Shape]:
    """The shapes of running deployments that may not run on every node, by deployment."""
    rows = await session.execute(
        select(
            Deployment.id,
            Deployment.cpu_milli,
            Deployment.ram_mib,
            Deployment.gpu_milli,
            Deployment.placement_limits,
        )
        .join(Allocation, Allocation.deployment_id == Deployment.id)
        .where(Allocation.cluster_id == cluster_id, Deployment.placement_limits.is_not(None))
    )
    return {row.id: Shape.of(Resources(*row[1:4]), row.placement_limits) for row in rows}


async def _drain(
    session: WriteSession,
    access: ClusterAccess,
    occupants: Occupants,
    move: Move,
    names: Mapping[int, str],
    now: datetime,
) -> None:
    live = select(Attempt.id).where(
        Attempt.deployment_id == move.deployment_id,
        Attempt.node_id == move.from_node,
        Attempt.finished_at.is_(None),
        Attempt.stop_requested_at.is_(None),
    )
    attempts = list(await session.scalars(live))
    where = f"moves from {names[move.from_node]} to {names[move.to_node]}"
    actor = access.principal.actor
    await occupants.stop_attempts(
        session,
        attempts,
        StopReason.DRAINED,
        sentence=f"{where} at the request of an admin",
        now=now,
        actor=actor,
    )
    deployment = await repository.find(session, move.deployment_id)
    room = (await lock_nodes(session, [move.to_node])).get(move.to_node)
    if len(attempts) != 1 or deployment is None or room is None or not room.schedulable:
        raise _immovable(move.deployment_id, move.to_node)
    if room.misfit(deployment, move.gpu_indices):
        raise _immovable(move.deployment_id, move.to_node)
    await session.merge(
        NominationRow(
            deployment_id=move.deployment_id,
            replica=0,
            cluster_id=access.cluster_id,
            node_id=move.to_node,
            gpu_indices=list(move.gpu_indices),
            created_at=now,
        )
    )
    record_about(
        session,
        deployment,
        at=now,
        actor=actor,
        type="deployment.moved",
        code="moved",
        message=where,
        data={"from": names[move.from_node], "to": names[move.to_node], "lost_work_seconds": move.lost_work},
    )


def _immovable(deployment_id: int, node_id: int) -> Conflict:
    return Conflict(
        "cannot_move",
        f"Deployment {deployment_id} cannot be moved to node {node_id}: it must run on another node of this "
        "cluster with one replica, be preemptible and past its minimum runtime, and fit there now.",
    )


def _names(view: ClusterView) -> dict[int, str]:
    return dict(zip(view.snapshot.nodes.id.tolist(), view.snapshot.nodes.name, strict=True))


def _shapes(found: Fragmentation) -> list[ShapeResponse]:
    return [
        ShapeResponse(
            required_cpu_cores=one.shape.cpu_milli / MILLI,
            required_ram_gb=one.shape.ram_mib / MIB_PER_GIB,
            required_gpu_count=one.shape.gpu_milli / WHOLE_GPU,
            gpu_models=list(one.shape.gpu_models),
            node_selector=dict(one.shape.node_selector),
            weight=round(one.weight, 6),
            fits_now=one.fits_now,
            unusable_gpu=one.unusable_gpu_milli / WHOLE_GPU,
        )
        for one in found.shapes
    ]


def _nodes(found: Fragmentation, names: Mapping[int, str]) -> list[NodeRoomResponse]:
    return [
        NodeRoomResponse(
            node=names[one.node_id],
            free_cpu_cores=one.free.cpu_milli / MILLI,
            free_ram_gb=one.free.ram_mib / MIB_PER_GIB,
            free_gpus=one.free.gpu_milli // WHOLE_GPU,
            idle_gpu=one.idle_gpu_milli / WHOLE_GPU,
            expected_unusable_gpu=round(one.expected_unusable / WHOLE_GPU, 6),
        )
        for one in found.nodes
    ]


def _opening(
    opening: Opening, names: Mapping[int, str], named: Mapping[int, NamedRow], principal: Principal
) -> OpeningResponse:
    moves = [_move(one, names, named, principal) for one in opening.moves]
    return OpeningResponse(node=names[opening.node_id], moves=moves)


def _move(
    move: Move, names: Mapping[int, str], named: Mapping[int, NamedRow], principal: Principal
) -> MoveResponse:
    return MoveResponse(
        deployment=_shown(move.deployment_id, named, principal),
        from_node=names[move.from_node],
        to_node=names[move.to_node],
        to_node_id=move.to_node,
        gpu_indices=list(move.gpu_indices),
        lost_work_seconds=round(move.lost_work, 3),
    )


def _shown(deployment_id: int, named: Mapping[int, NamedRow], principal: Principal) -> NamedDeployment:
    """Id and name, if the caller may see them."""
    found = named.get(deployment_id)
    is_visible = found is not None and principal.role_in(found.organization_id) is not None
    shown = found if is_visible else None
    return NamedDeployment(id=shown.id if shown else None, name=shown.name if shown else None)
