"""Positions in the queue of a cluster.

Counted rows are exact. Where the queue index is ready, it is used instead, outside of any transaction.
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


class HasQueuePosition(QueuedRow, Protocol):
    """A response whose queue position is filled in later."""

    queue_position: int | None


async def queue_positions(session: AsyncSession, deployments: Collection[QueuedRow]) -> dict[int, int]:
    """The 1-based position of each queued deployment in the queue of its cluster, by counting rows.

    A single deployment costs a count in the database's index; several cost one query over their clusters'
    queues.
    """
    queued = [one for one in deployments if one.state == State.QUEUED.value]
    if len(queued) == 1:
        (deployment,) = queued
        ahead = rows_ahead(deployment.cluster_id, key_of(deployment))
        query = select(func.count()).select_from(Deployment).where(ahead)
        return {deployment.id: (await session.scalar(query) or 0) + 1}
    return await _number_rows(session, queued) if queued else {}


def not_indexed(index: QueueIndex | None, deployments: Sequence[Deployment]) -> Sequence[Deployment]:
    """The deployments whose cluster the index cannot serve yet."""
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
        self, index: QueueIndex | None, responses: Sequence[HasQueuePosition], *, new: bool = False
    ) -> None:
        """Set the position of each queued response that has none: by the index, else by rows.

        `new` means just submitted. Not inside a transaction: no lock may wait for the index.
        """
        waiting = [one for one in responses if one.state == State.QUEUED.value and one.queue_position is None]
        found = await _read_index(index, waiting) if index is not None and waiting else {}
        missing = [one for one in waiting if one.id not in found]
        if missing:
            found |= await self._count(missing, new=new)
        for response in waiting:
            response.queue_position = found.get(response.id)

    async def _count(self, waiting: Sequence[HasQueuePosition], *, new: bool) -> dict[int, int]:
        found = self._estimator.add(waiting) if new else {}
        missing = [one for one in waiting if one.id not in found]
        if missing:
            found |= await self._counts.submit(missing)
        if missing and new:
            self._estimator.learn(missing, found)
        return found


async def ahead_of(session: AsyncSession, deployment: Deployment, limit: int) -> Sequence[Deployment]:
    """The first `limit` deployments of the same organization ahead of this one, in queue order.

    On a shared cluster, deployments of other organizations may be ahead too; they are left out.
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


async def _read_index(index: QueueIndex, waiting: Sequence[HasQueuePosition]) -> dict[int, int]:
    clusters: Mapping[int, list[QueueKey]] = defaultdict(list)
    for one in waiting:
        clusters[one.cluster_id].append(key_of(one))
    found: dict[int, int] = {}
    for cluster_id, keys in clusters.items():
        positions = await index.positions(cluster_id, keys)
        if positions is not None:
            found.update(zip((key.id for key in keys), positions, strict=True))
    return found


async def _number_rows(session: AsyncSession, queued: Sequence[QueuedRow]) -> dict[int, int]:
    clusters = sorted({one.cluster_id for one in queued})
    position = func.row_number().over(
        partition_by=Deployment.cluster_id,
        order_by=(Deployment.priority.desc(), Deployment.created_at, Deployment.id),
    )
    numbered = (
        select(Deployment.id, position.label("position"))
        .where(Deployment.cluster_id.in_(clusters), IS_QUEUED)
        .subquery()
    )
    found: dict[int, int] = {}
    for chunk in chunks(sorted(one.id for one in queued)):
        rows = await session.execute(
            select(numbered.c.id, numbered.c.position).where(numbered.c.id.in_(chunk))
        )
        found.update((id_, position) for id_, position in rows)
    return found
