"""Places in the queue of a cluster: by priority, then age, then id, counted in the database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.deployments.dependents import chunks
from hypervisor.lifecycle.states import State
from hypervisor.store.tables import Deployment


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a queued deployment stands: the key that the queue of its cluster is sorted by."""

    cluster_id: int
    priority: int
    created_at: datetime
    id: int

    @classmethod
    def of(cls, deployment: Deployment) -> QueuePlace:
        return cls(deployment.cluster_id, deployment.priority, deployment.created_at, deployment.id)

    def ahead(self) -> ColumnElement[bool]:
        """The condition for whatever stands before this place."""
        later = or_(
            Deployment.created_at < self.created_at,
            and_(Deployment.created_at == self.created_at, Deployment.id < self.id),
        )
        return and_(
            Deployment.cluster_id == self.cluster_id,
            Deployment.state == State.QUEUED.value,
            or_(Deployment.priority > self.priority, and_(Deployment.priority == self.priority, later)),
        )


async def queue_positions(session: AsyncSession, deployments: Collection[Deployment]) -> dict[int, int]:
    """The 1-based place of each queued one in the queue of its cluster.

    One is counted by the queue's index; several are numbered by one query over their clusters' queues.
    """
    queued = [one for one in deployments if one.state == State.QUEUED.value]
    if len(queued) == 1:
        ahead = select(func.count()).select_from(Deployment).where(QueuePlace.of(queued[0]).ahead())
        return {queued[0].id: (await session.scalar(ahead) or 0) + 1}
    return await _numbered(session, queued) if queued else {}


async def ahead_of(session: AsyncSession, deployment: Deployment, limit: int) -> Sequence[Deployment]:
    """The first of the queue that stand before this one and belong to its own organization: on a shared
    cluster others may stand there too."""
    query = (
        select(Deployment)
        .where(QueuePlace.of(deployment).ahead(), Deployment.organization_id == deployment.organization_id)
        .order_by(Deployment.priority.desc(), Deployment.created_at, Deployment.id)
        .limit(limit)
    )
    return (await session.scalars(query)).all()


async def _numbered(session: AsyncSession, queued: Sequence[Deployment]) -> dict[int, int]:
    clusters = sorted({one.cluster_id for one in queued})
    place = func.row_number().over(
        partition_by=Deployment.cluster_id,
        order_by=(Deployment.priority.desc(), Deployment.created_at, Deployment.id),
    )
    numbered = (
        select(Deployment.id, place.label("place"))
        .where(Deployment.cluster_id.in_(clusters), Deployment.state == State.QUEUED.value)
        .subquery()
    )
    found: dict[int, int] = {}
    for chunk in chunks(sorted(one.id for one in queued)):
        rows = await session.execute(select(numbered.c.id, numbered.c.place).where(numbered.c.id.in_(chunk)))
        found.update((id_, number) for id_, number in rows)
    return found
