"""Finishes deletions that waited until nothing was running: nodes, clusters, organizations.

The request only marks the row; the end of all work in it is asked for here too, so that a mark is enough.
What has ended in it goes first, in many short transactions: a history of years holds nobody up. What is left
after a while goes with the next turn.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, delete, exists, or_, select

from hypervisor.deployments.state.bulk_stop import stop_all
from hypervisor.deployments.state.dependencies import cancel_dependents
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
AT_ONCE = 500
"""Deployments, or decisions, in one transaction; with each go its attempts, or a snapshot."""


async def deletions_wait(session: ReadSession) -> bool:
    """Whether anything is marked as deleting; a look that takes no lock."""
    return bool(await session.scalar(_ANY_MARKED))


_ANY_MARKED = select(
    exists().where(Node.deleting)
    | exists().where(Cluster.deleting_at.is_not(None))
    | exists().where(Organization.deleting_at.is_not(None))
)


async def finish_deletions(database: Database, now: datetime) -> None:
    """Delete what is marked as deleting and holds no allocation any more. Safe to run again."""
    await database.transact(lambda session: _nodes(session, now))
    for cluster_id in await _marked(database, Cluster):
        await _cluster(database, cluster_id, now)
    for organization_id in await _marked(database, Organization):
        await _organization(database, organization_id, now)


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


async def _marked(database: Database, place: type[Owner]) -> list[int]:
    async with database.read() as session:
        query = select(place.id).where(place.deleting_at.is_not(None)).order_by(place.id)
        return list(await session.scalars(query))


async def _cluster(database: Database, cluster_id: int, now: datetime) -> None:
    inside, held = Deployment.cluster_id == cluster_id, Allocation.cluster_id == cluster_id
    if not await _wound_down(database, inside, held, now, "its cluster is being deleted"):
        return
    if not await _forget_deployments(database, inside, now):
        return
    stored = Decision.cluster_id == cluster_id
    gone = await delete_in_batches(database, Decision.id, stored, oldest_first=Decision.id, batch=AT_ONCE)
    if gone >= AT_ONCE * batches.MAX_BATCHES:
        return

    async def work(session: WriteSession) -> None:
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

    await database.transact(work)


async def _organization(database: Database, organization_id: int, now: datetime) -> None:
    inside = Deployment.organization_id == organization_id
    own = select(Cluster.id).where(Cluster.organization_id == organization_id)
    held = or_(Allocation.cluster_id.in_(own), inside)
    if not await _wound_down(database, inside, held, now, "its organization is being deleted"):
        return
    if not await _forget_deployments(database, inside, now):
        return
    if not await _forget_deployments(database, Deployment.cluster_id.in_(own), now):
        return
    said = Event.organization_id == organization_id
    gone = await delete_in_batches(database, Event.id, said, oldest_first=Event.id)
    if gone >= batches.BATCH * batches.MAX_BATCHES:
        return

    async def work(session: WriteSession) -> None:
        organization = await session.get(Organization, organization_id, with_for_update=True)
        if organization is not None:
            await session.delete(organization)

    await database.transact(work)


async def _wound_down(
    database: Database, inside: ColumnElement[bool], held: ColumnElement[bool], now: datetime, why: str
) -> bool:
    """Whether nothing waits or runs any more, after what does was asked to end."""

    async def work(session: WriteSession) -> bool:
        await stop_all(session, inside, now=now, actor=SYSTEM, why=why)
        holds = select(Allocation.attempt_id).join(Deployment, Deployment.id == Allocation.deployment_id)
        return await session.scalar(holds.where(held).limit(1)) is None

    return await database.transact(work)


async def _forget_deployments(database: Database, inside: ColumnElement[bool], now: datetime) -> bool:
    """Delete ended deployments with all that belongs to them; whether none is left. What waits for one of
    them in another place is cancelled.
    """

    async def work(session: WriteSession) -> int:
        query = select(Deployment.id).where(inside).order_by(Deployment.id).limit(AT_ONCE)
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
        if await database.transact(work) < AT_ONCE:
            return True
    return False
