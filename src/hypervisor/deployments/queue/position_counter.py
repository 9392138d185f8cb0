"""Positions of new deployments, counted from rows once for all requests of the same time.

A new deployment is near the end of its priority, so each count would read nearly the whole queue. Far back in
a long queue, its position is therefore estimated without the database: from the end of that queue as it was a
moment ago, and the deployments that this process has accepted since.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hypervisor.deployments.queue.key import QueuedRow, key_of, rows_ahead
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.queue_key import QueueKey
from hypervisor.store.tables import IS_QUEUED, Deployment

FAR_BACK = 1000
"""Positions up to this one are always counted."""
ESTIMATE_SECONDS = 1.0
"""The maximum age of the count that an estimate for a new deployment starts from."""

BETWEEN = select(Deployment.created_at, Deployment.id).where(
    Deployment.cluster_id == bindparam("cluster_id"),
    IS_QUEUED,
    Deployment.priority == bindparam("priority"),
    Deployment.created_at.between(bindparam("first"), bindparam("last")),
)
"""The queued deployments of one priority that were created between two times."""


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a queue as it was at `counted_at` (monotonic seconds), and the keys accepted here since."""

    key: QueueKey
    position: int
    counted_at: float
    since: list[QueueKey] = field(default_factory=list)

    def is_recent(self, now: float) -> bool:
        """Whether it is recent enough for an estimate at `now` (monotonic seconds)."""
        return now - self.counted_at < ESTIMATE_SECONDS

    def position_of(self, key: QueueKey) -> int | None:
        """The position of a new deployment, which is remembered. None when it is ahead of this end."""
        if key <= self.key:
            return None
        index = bisect_left(self.since, key)
        self.since.insert(index, key)
        return self.position + index + 1


class PositionEstimator:
    """Remembers the end of the queue of each cluster and priority for a moment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[tuple[int, int], _End] = {}

    def add(self, new: Sequence[QueuedRow]) -> dict[int, int]:
        """Positions by id of deployments that were just accepted, where the end of a queue is known."""
        found: dict[int, int] = {}
        now = self._clock.monotonic()
        for one in new:
            end = self._ends.get((one.cluster_id, one.priority))
            position = end.position_of(key_of(one)) if end is not None and end.is_recent(now) else None
            if position is not None:
                found[one.id] = position
        return found

    def learn(self, new: Sequence[QueuedRow], found: Mapping[int, int]) -> None:
        """Remember the counted positions of deployments that were just accepted: the ends of their queues."""
        now = self._clock.monotonic()
        self._ends = {queue: end for queue, end in self._ends.items() if end.is_recent(now)}
        for one in new:
            queue, key = (one.cluster_id, one.priority), key_of(one)
            if queue in self._ends:
                self._ends[queue].position_of(key)
            elif found[one.id] > FAR_BACK:
                self._ends[queue] = _End(key, found[one.id], now)

    async def count(
        self, connection: AsyncConnection, rows: Sequence[Sequence[QueuedRow]]
    ) -> list[dict[int, int]]:
        """The 1-based position of each deployment by its id, for every sequence of `rows`."""
        alike: dict[tuple[int, int], list[QueueKey]] = defaultdict(list)
        for one in (one for each in rows for one in each):
            alike[one.cluster_id, one.priority].append(key_of(one))
        found: dict[int, int] = {}
        for (cluster_id, _), keys in alike.items():
            found |= await _count(connection, cluster_id, sorted(keys))
        return [{one.id: found[one.id] for one in each} for each in rows]


async def _count(connection: AsyncConnection, cluster_id: int, keys: Sequence[QueueKey]) -> dict[int, int]:
    """Positions by id for ascending keys of one cluster and priority."""
    first = await _position(connection, cluster_id, keys[0])
    rows = await _between(connection, cluster_id, keys[0], keys[-1])
    before = bisect_left(rows, keys[0])
    return {key.id: first + bisect_left(rows, key) - before for key in keys}


async def _position(connection: AsyncConnection, cluster_id: int, key: QueueKey) -> int:
    query = select(func.count()).select_from(Deployment).where(rows_ahead(cluster_id, key))
    return (await connection.scalar(query) or 0) + 1


async def _between(
    connection: AsyncConnection, cluster_id: int, first: QueueKey, last: QueueKey
) -> list[QueueKey]:
    """The keys of the priority of both in order, from the creation time of the first to that of the last."""
    if first == last:
        return []
    rows = await connection.execute(
        BETWEEN,
        {
            "cluster_id": cluster_id,
            "priority": first.priority,
            "first": first.created_at,
            "last": last.created_at,
        },
    )
    return sorted(QueueKey.of(first.priority, created_at, id_) for created_at, id_ in rows)
