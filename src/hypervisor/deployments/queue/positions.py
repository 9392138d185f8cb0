"""Places in the queue of a cluster: by priority, then age, then id.

Rows that are counted are the truth. Where an index is ready it is asked instead, outside of any transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.deployments.queue.key import QueuedRow, key_of, rows_ahead
from hypervisor.deployments.queue.position_counter import PositionEstimator
from hypervisor.infra.coordination.queue_index import QueueIndex
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.queue_key import QueueKey
from hypervisor.lifecycle.states import State
from hypervisor.store.chunks import chunks
from hypervisor.store.database import Database
from hypervisor.store.tables import IS_QUEUED, Deployment


class PositionHolder(QueuedRow, Protocol):
    """An answer whose place may be left to the index."""

    queue_position: int | None


async def queue_positions(session: AsyncSession, deployments: Collection[QueuedRow]) -> dict[int, int]:
    """The 1-based place of each queued one in the queue of its cluster, by counting rows.

    One is counted by the database's index; several are numbered by one query over their clusters' queues.
    """
    queued = [one for one in deployments if one.state == State.QUEUED.value]
    if len(queued) == 1:
        (deployment,) = queued
        ahead = rows_ahead(deployment.cluster_id, key_of(deployment))
        query = select(func.count()).select_from(Deployment).where(ahead)
        return {deployment.id: (await session.scalar(query) or 0) + 1}
    return await _numbered(session, queued) if queued else {}


def not_indexed(index: QueueIndex | None, deployments: Sequence[Deployment]) -> Sequence[Deployment]:
    """Those whose places the index is not ready for."""
    if index is None:
        return deployments
    clusters = {one.cluster_id for one in deployments if one.state == State.QUEUED.value}
    ready = {cluster_id for cluster_id in clusters if index.ready(cluster_id)}
    return [one for one in deployments if one.cluster_id not in ready]


class QueuePositions:
    """Adds queue positions to responses. Positions that are counted at the same time share a query."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._estimator = PositionEstimator(clock)
        self._counts = database.read_group("queue positions", self._estimator.count)

    async def fill(
        self, index: QueueIndex | None, responses: Sequence[PositionHolder], *, new: bool = False
    ) -> None:
        """Set the position of each queued response that has none: by the index, else by rows.

        `new` means just submitted. Not inside a transaction: no lock may wait for the index.
        """
        waiting = [one for one in responses if one.state == State.QUEUED.value and one.queue_position is None]
        found = await _indexed(index, waiting) if index is not None and waiting else {}
        missing = [one for one in waiting if one.id not in found]
        if missing:
            found |= await self._count(missing, new=new)
        for one in waiting:
            one.queue_position = found.get(one.id)

    async def _count(self, waiting: Sequence[PositionHolder], *, new: bool) -> dict[int, int]:
        found = self._estimator.add(waiting) if new else {}
        missing = [one for one in waiting if one.id not in found]
        if missing:
            found |= await self._counts.ask(missing)
        if missing and new:
            self._estimator.learn(missing, found)
        return found


async def ahead_of(session: AsyncSession, deployment: Deployment, limit: int) -> Sequence[Deployment]:
    """The first of the queue that stand before this one and belong to its own organization: on a shared
    cluster others may stand there too.

    Their rows are wanted, in the order of the database's own index: there is nothing to count.
    """
    query = (
        select(Deployment)
        .where(
            rows_ahead(deployment.cluster_id, key_of(deployment)),
            Deployment.organization_id == deployment.organization_id,
        )
        .order_by(Deployment.priority.desc(), Deployment.created_at, Deployment.id)
        .limit(limit)
    )
    return (await session.scalars(query)).all()


async def _indexed(index: QueueIndex, waiting: Sequence[PositionHolder]) -> dict[int, int]:
    clusters: Mapping[int, list[QueueKey]] = defaultdict(list)
    for one in waiting:
        clusters[one.cluster_id].append(key_of(one))
    found: dict[int, int] = {}
    for cluster_id, keys in clusters.items():
        positions = await index.positions(cluster_id, keys)
        if positions is not None:
            found.update(zip((key.id for key in keys), positions, strict=True))
    return found


async def _numbered(session: AsyncSession, queued: Sequence[QueuedRow]) -> dict[int, int]:
    clusters = sorted({one.cluster_id for one in queued})
    place = func.row_number().over(
        partition_by=Deployment.cluster_id,
        order_by=(Deployment.priority.desc(), Deployment.created_at, Deployment.id),
    )
    numbered = (
        select(Deployment.id, place.label("place"))
        .where(Deployment.cluster_id.in_(clusters), IS_QUEUED)
        .subquery()
    )
    found: dict[int, int] = {}
    for chunk in chunks(sorted(one.id for one in queued)):
        rows = await session.execute(select(numbered.c.id, numbered.c.place).where(numbered.c.id.in_(chunk)))
        found.update((id_, number) for id_, number in rows)
    return found
