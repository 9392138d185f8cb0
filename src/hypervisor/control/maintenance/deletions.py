"""Deletion of marked nodes, clusters and organizations, after their deployments have ended.

The API request only marks the row; the deployments in it are stopped here too. The history is deleted first,
in many short transactions, so that a long history blocks no other writer. A turn deletes a limited number of
batches; the next turn continues.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, delete, exists, or_, select

from hypervisor.deployments.state.bulk_stop import stop_all
from hypervisor.deployments.state.settle import cancel_dependents
from hypervisor.events.log import SYSTEM, record
from hypervisor.store import batches
from hypervisor.store.batches import delete_in_batches
from hypervisor.store.database import Database, ReadSession, WriteSession
from hypervisor.store.removals import enqueue_instance_gc
from hypervisor.store.tables import (
    Allocation,
    Attempt,
    Cluster,
    Decision,
    Deployment,
    Event,
    Node,
    Organization,
)

Owner = TypeVar("Owner", Cluster, Organization)
BATCH_SIZE = 500
"""Deployments (with their attempts) or decisions (with their snapshots) deleted in one transaction."""


async def has_pending_deletions(session: ReadSession) -> bool:
    """Whether any row is marked as deleting. Takes no lock."""
    return bool(await session.scalar(_ANY_MARKED))


_ANY_MARKED = select(
    exists().where(Node.deleting)
    | exists().where(Cluster.deleting_at.is_not(None))
    | exists().where(Organization.deleting_at.is_not(None))
)


async def finish_deletions(database: Database, now: datetime) -> None:
    """Delete the marked rows that hold no allocation any more. Idempotent."""
    await database.transact(lambda session: _delete_nodes(session, now))
    for cluster_id in await _pending_deletions(database, Cluster):
        await _delete_cluster(database, cluster_id, now)
    for organization_id in await _pending_deletions(database, Organization):
        await _delete_organization(database, organization_id, now)


async def _delete_nodes(session: WriteSession, now: datetime) -> None:
    busy = exists().where(Allocation.node_id == Node.id)
    rows = await session.execute(
        select(Node, Cluster.organization_id)
        .join(Cluster, Cluster.id == Node.cluster_id)
        .where(Node.deleting, ~busy)
        .order_by(Node.id)
        .with_for_update(of=Node)
    )
    for node, organization_id in rows:
        record(
            session,
            organization_id=organization_id,
            cluster_id=node.cluster_id,
            at=now,
            actor=SYSTEM,
            type="node.deleted",
            message=f"node {node.name} was removed after it had drained",
        )
        await session.delete(node)


async def _pending_deletions(database: Database, table: type[Owner]) -> list[int]:
    async with database.read() as session:
        query = select(table.id).where(table.deleting_at.is_not(None)).order_by(table.id)
        return list(await session.scalars(query))


async def _delete_cluster(database: Database, cluster_id: int, now: datetime) -> None:
    in_scope, held = Deployment.cluster_id == cluster_id, Allocation.cluster_id == cluster_id
    if not await _is_drained(database, in_scope, held, now, "its cluster is being deleted"):
        return
    if not await _delete_deployments(database, in_scope, now):
        return
    decisions = Decision.cluster_id == cluster_id
    deleted = await delete_in_batches(
        database, Decision.id, decisions, oldest_first=Decision.id, batch=BATCH_SIZE
    )
    if deleted >= BATCH_SIZE * batches.MAX_BATCHES:
        return

    async def transaction(session: WriteSession) -> None:
        cluster = await session.get(Cluster, cluster_id, with_for_update=True)
        if cluster is None:
            return
        await enqueue_instance_gc(session, Attempt.cluster_id == cluster_id, now)
        record(
            session,
            organization_id=cluster.organization_id,
            cluster_id=cluster.id,
            at=now,
            actor=SYSTEM,
            type="cluster.deleted",
            message=f"cluster {cluster.name} was deleted",
        )
        await session.delete(cluster)

    await database.transact(transaction)


async def _delete_organization(database: Database, organization_id: int, now: datetime) -> None:
    in_scope = Deployment.organization_id == organization_id
    own_clusters = select(Cluster.id).where(Cluster.organization_id == organization_id)
    held = or_(Allocation.cluster_id.in_(own_clusters), in_scope)
    if not await _is_drained(database, in_scope, held, now, "its organization is being deleted"):
        return
    if not await _delete_deployments(database, in_scope, now):
        return
    if not await _delete_deployments(database, Deployment.cluster_id.in_(own_clusters), now):
        return
    events = Event.organization_id == organization_id
    deleted = await delete_in_batches(database, Event.id, events, oldest_first=Event.id)
    if deleted >= batches.BATCH * batches.MAX_BATCHES:
        return

    async def transaction(session: WriteSession) -> None:
        organization = await session.get(Organization, organization_id, with_for_update=True)
        if organization is not None:
            await session.delete(organization)

    await database.transact(transaction)


async def _is_drained(
    database: Database, in_scope: ColumnElement[bool], held: ColumnElement[bool], now: datetime, reason: str
) -> bool:
    """Stop all deployments in scope; whether no allocation is left."""

    async def transaction(session: WriteSession) -> bool:
        await stop_all(session, in_scope, now=now, actor=SYSTEM, why=reason)
        allocations = select(Allocation.attempt_id).join(
            Deployment, Deployment.id == Allocation.deployment_id
        )
        return await session.scalar(allocations.where(held).limit(1)) is None

    return await database.transact(transaction)


async def _delete_deployments(database: Database, in_scope: ColumnElement[bool], now: datetime) -> bool:
    """Delete the ended deployments in scope with their attempts and cancel their dependents; whether none
    is left.
    """

    async def transaction(session: WriteSession) -> int:
        query = select(Deployment.id).where(in_scope).order_by(Deployment.id).limit(BATCH_SIZE)
        ids = list(await session.scalars(query.with_for_update()))
        if ids:
            await cancel_dependents(session, ids, now=now, actor=SYSTEM)
            await enqueue_instance_gc(session, Attempt.deployment_id.in_(ids), now)
            await session.execute(
                delete(Deployment).where(Deployment.id.in_(ids)),
                execution_options={"synchronize_session": False},
            )
        return len(ids)

    for _ in range(batches.MAX_BATCHES):
        if await database.transact(transaction) < BATCH_SIZE:
            return True
    return False
