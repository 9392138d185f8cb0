"""Keeps the queue index like the rows: builds what is missing, and compares the rest now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import select

from hypervisor.deployments.queue.index_updates import change_of, gone
from hypervisor.infra.coordination.coordination import QUEUE_TOPIC
from hypervisor.infra.coordination.queue_index import Change, Place, QueueIndex
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.store.chunks import chunks
from hypervisor.store.database import Database
from hypervisor.store.tables import IS_QUEUED, Cluster, Deployment

COMPARE_EVERY = 60.0
COMPARE_SHARE = 0.02
LINGER = 0.05
"""Requests ask for a missing index in bursts."""
IN_PART = 2000
"""Rows read before others get their turn."""
NEWEST = 2**53 - 2
"""The generation of a deployment whose row is gone; a script's numbers are floats."""

log = structlog.get_logger(__name__)


class QueueIndexSync:
    """One process's keeper; several may do the same work, because every step may be done twice."""

    def __init__(self, database: Database, clock: Clock, wakeup: Wakeup, index: QueueIndex) -> None:
        self._database = database
        self._clock = clock
        self._listener = wakeup.listen(QUEUE_TOPIC)
        self._index = index

    async def run(self) -> None:
        """Build on hints and compare everything at first and every minute, until cancelled.

        Long queues are compared less often, so that no more than a fiftieth of the time goes into it.
        """
        compare_at = self._clock.monotonic()
        while True:
            began = self._clock.monotonic()
            everything = began >= compare_at
            try:
                await self.look_after(everything=everything)
            except Exception:
                log.exception("queue_keeper.failed")
            if everything:
                took = self._clock.monotonic() - began
                compare_at = began + max(COMPARE_EVERY, took / COMPARE_SHARE)
            await self._listener.wait(COMPARE_EVERY)
            await asyncio.sleep(LINGER)

    async def look_after(self, *, everything: bool) -> None:
        """Build the queues of clusters that the index lacks; with `everything`, compare the others too."""
        async with self._database.read() as session:
            clusters = list(await session.scalars(select(Cluster.id).order_by(Cluster.id)))
        missing = await self._index.retain(clusters)
        for cluster_id in clusters if everything else sorted(missing):
            if cluster_id in missing:
                await self._index.rebuild(cluster_id, await self._queued(cluster_id))
            # Also behind a build: what was committed meanwhile was told to an index that was not there yet.
            await self.compare(cluster_id)

    async def compare(self, cluster_id: int) -> int:
        """Mend where the index differs from the rows; in how many deployments it did."""
        indexed = await self._index.entries(cluster_id)
        if indexed is None:
            return 0
        rows = {one.deployment_id: one.place for one in await self._queued(cluster_id)}
        different = sorted(id_ for id_ in rows.keys() | indexed if rows.get(id_) != indexed.get(id_))
        if different:
            # Most of them have changed between the two reads; a third one tells, and newer news win anyway.
            self._index.note(await self._as_stored(cluster_id, different))
        return len(different)

    async def _queued(self, cluster_id: int) -> list[Change]:
        query = select(
            Deployment.id, Deployment.generation, Deployment.priority, Deployment.created_at
        ).where(Deployment.cluster_id == cluster_id, IS_QUEUED)
        found: list[Change] = []
        async with self._database.read_streaming() as session:
            async for part in (await session.stream(query)).partitions(IN_PART):
                found.extend(
                    Change(cluster_id, row.id, row.generation, Place.of(row.priority, row.created_at, row.id))
                    for row in part
                )
        return found

    async def _as_stored(self, cluster_id: int, ids: Sequence[int]) -> list[Change]:
        found: dict[int, Change] = {}
        async with self._database.read() as session:
            for chunk in chunks(ids):
                rows = await session.scalars(select(Deployment).where(Deployment.id.in_(chunk)))
                found.update((row.id, change_of(row)) for row in rows)
        return [found.get(id_) or gone(cluster_id, id_, NEWEST) for id_ in ids]


@asynccontextmanager
async def keeping(keeper: QueueIndexSync) -> AsyncIterator[None]:
    """The keeper at work, as long as the block lasts."""
    task = asyncio.create_task(keeper.run(), name="queue-keeper")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
