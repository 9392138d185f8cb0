"""Finishes deletions that waited until nothing was running: nodes, clusters, organizations.

The request only marks the row; the end of all work in it is asked for here too, so that a mark is enough.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, exists, select

from hypervisor.deployments.winding_down import cancel_outside_dependents, wind_down
from hypervisor.events.log import SYSTEM, record
from hypervisor.store.database import ReadSession, WriteSession
from hypervisor.store.removals import forget_attempts
from hypervisor.store.tables import Allocation, Attempt, Cluster, Deployment, Node, Organization


async def deletions_wait(session: ReadSession) -> bool:
    """Whether anything is marked as deleting; a look that takes no lock."""
    marked = exists().where(Node.deleting) | exists().where(Cluster.deleting_at.is_not(None))
    return bool(await session.scalar(select(marked | exists().where(Organization.deleting_at.is_not(None)))))


async def finish_deletions(session: WriteSession, now: datetime) -> None:
    """Delete what is marked as deleting and holds no allocation any more. Safe to run again."""
    await _nodes(session, now)
    await _clusters(session, now)
    await _organizations(session, now)


async def _nodes(session: WriteSession, now: datetime) -> None:
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


async def _clusters(session: WriteSession, now: datetime) -> None:
    rows = await session.scalars(
        select(Cluster).where(Cluster.deleting_at.is_not(None)).order_by(Cluster.id).with_for_update()
    )
    for cluster in rows:
        inside = Deployment.cluster_id == cluster.id
        await wind_down(session, inside, now=now, actor=SYSTEM, why="its cluster is being deleted")
        if await _holds(session, Allocation.cluster_id == cluster.id):
            continue
        await cancel_outside_dependents(session, inside, now=now, actor=SYSTEM)
        await forget_attempts(session, Attempt.cluster_id == cluster.id, now)
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


async def _organizations(session: WriteSession, now: datetime) -> None:
    rows = await session.scalars(
        select(Organization).where(Organization.deleting_at.is_not(None)).with_for_update()
    )
    for organization in rows:
        inside = Deployment.organization_id == organization.id
        await wind_down(session, inside, now=now, actor=SYSTEM, why="its organization is being deleted")
        own = select(Cluster.id).where(Cluster.organization_id == organization.id)
        if not await _holds(session, Allocation.cluster_id.in_(own)):
            await forget_attempts(session, Attempt.organization_id == organization.id, now)
            await session.delete(organization)


async def _holds(session: WriteSession, which: ColumnElement[bool]) -> bool:
    return await session.scalar(select(Allocation.attempt_id).where(which).limit(1)) is not None
