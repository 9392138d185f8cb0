"""Synchronizes the queue index with the rows: builds missing queues and compares the others at intervals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import select

from hypervisor.deployments.queue.index_updates import change_of, removal
from hypervisor.infra.coordination.coordination import QUEUE_TOPIC
from hypervisor.infra.coordination.queue_index import Change, QueueIndex
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.queue_key import QueueKey
from hypervisor.store.chunks import chunks
from hypervisor.store.database import Database
from hypervisor.store.tables import IS_QUEUED, Cluster, Deployment

COMPARE_INTERVAL = 60.0
COMPARE_SHARE = 0.02
DEBOUNCE_SECONDS = 0.05
"""Seconds; requests hint at a missing index in bursts."""
PARTITION_ROWS = 2000
"""Rows read before the event loop may run other tasks."""
MAX_GENERATION = 2**53 - 2
"""The generation noted for a deleted deployment; numbers in Redis scripts are floats."""

log = structlog.get_logger(__name__)


class QueueIndexSync:
    """The synchronization of one process. Several may run at once: every step is idempotent."""

    def __init__(self, database: Database, clock: Clock, wakeup: Wakeup, index: QueueIndex) -> None:
        self._database = database
        self._clock = clock
        self._listener = wakeup.listen(QUEUE_TOPIC)
        self._index = index

    async def run(self) -> None:
        """Build on hints; compare everything at the start and every minute, until cancelled.

        Long queues are compared less often, so that comparing takes at most a fiftieth of the time.
        """
        compare_at = self._clock.monotonic()
        while True:
            started_at = self._clock.monotonic()
            everything = started_at >= compare_at
            try:
                await self.sync(everything=everything)
            except Exception:
                log.exception("queue_index_sync.failed")
            if everything:
                elapsed = self._clock.monotonic() - started_at
                compare_at = started_at + max(COMPARE_INTERVAL, elapsed / COMPARE_SHARE)
            await self._listener.wait(COMPARE_INTERVAL)
            await asyncio.sleep(DEBOUNCE_SECONDS)

    async def sync(self, *, everything: bool) -> None:
        """Build the queues that the index lacks; with `everything`, compare the others too."""
        async with self._database.read() as session:
            clusters = list(await session.scalars(select(Cluster.id).order_by(Cluster.id)))
        missing = await self._index.retain(clusters)
        for cluster_id in clusters if everything else sorted(missing):
            if cluster_id in missing:
                await self._index.rebuild(cluster_id, await self._queued(cluster_id))
            # Also after a build: changes committed during it went to an index that did not exist yet.
            await self.compare(cluster_id)

    async def compare(self, cluster_id: int) -> int:
        """Correct the index where it differs from the rows; the number of deployments that differed."""
        indexed = await self._index.entries(cluster_id)
        if indexed is None:
            return 0
        stored = {change.deployment_id: change.key for change in await self._queued(cluster_id)}
        different = sorted(id_ for id_ in stored.keys() | indexed if stored.get(id_) != indexed.get(id_))
        if different:
            # Most of them changed between the two reads, so read again; a newer generation wins anyway.
            self._index.note(await self._as_stored(cluster_id, different))
        return len(different)

    async def _queued(self, cluster_id: int) -> list[Change]:
        query = select(
            Deployment.id, Deployment.generation, Deployment.priority, Deployment.created_at
        ).where(Deployment.cluster_id == cluster_id, IS_QUEUED)
        changes: list[Change] = []
        async with self._database.read_streaming() as session:
            async for part in (await session.stream(query)).partitions(PARTITION_ROWS):
                changes.extend(
                    Change(
                        cluster_id, row.id, row.generation, QueueKey.of(row.priority, row.created_at, row.id)
                    )
                    for row in part
                )
        return changes

    async def _as_stored(self, cluster_id: int, ids: Sequence[int]) -> list[Change]:
        changes: dict[int, Change] = {}
        async with self._database.read() as session:
            for chunk in chunks(ids):
                stored = await session.scalars(select(Deployment).where(Deployment.id.in_(chunk)))
                changes.update((row.id, change_of(row)) for row in stored)
        return [changes.get(id_) or removal(cluster_id, id_, MAX_GENERATION) for id_ in ids]


@asynccontextmanager
async def queue_index_syncing(index_sync: QueueIndexSync) -> AsyncIterator[None]:
    """Run the synchronization during the block."""
    task = asyncio.create_task(index_sync.run(), name="queue-index-sync")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
