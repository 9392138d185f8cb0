"""Places of new deployments, counted from rows once for all that are asked for at the same time.

Whoever is new stands near the end of those with its priority, so nearly the whole queue would be counted for
each of them. Far back in a long queue, a place is therefore found without asking the database: by the end of
that queue as it was a moment ago, and who was submitted here since.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hypervisor.deployments.queue.key import QueuedRow, QueuePlace
from hypervisor.store.tables import IS_QUEUED, Deployment

FAR_BACK = 1000
"""Places up to this one are always those of the rows as they are."""
BELIEVED_SECONDS = 1.0
"""How old what is known of the queue before a place that is farther back may be: of one that is new."""

BETWEEN = select(Deployment.created_at, Deployment.id).where(
    Deployment.cluster_id == bindparam("cluster_id"),
    IS_QUEUED,
    Deployment.priority == bindparam("priority"),
    Deployment.created_at.between(bindparam("first"), bindparam("last")),
)
"""Who is queued with a priority from one time to another."""


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a queue as it was at `counted_at` (monotonic seconds), and who was submitted here since."""

    place: QueuePlace
    position: int
    counted_at: float
    since: list[tuple[datetime, int]] = field(default_factory=list)

    @property
    def believed(self) -> bool:
        """Whether the queue is taken to end there still."""
        return time.monotonic() - self.counted_at < BELIEVED_SECONDS

    def position_of(self, place: QueuePlace) -> int | None:
        """Of a new one, which is remembered; None: it stands before this end."""
        if place.behind <= self.place.behind:
            return None
        index = bisect_left(self.since, place.behind)
        self.since.insert(index, place.behind)
        return self.position + index + 1


class PositionEstimator:
    """For one database; remembers for a moment an end for each cluster and priority."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, int], _End] = {}

    def add(self, new: Sequence[QueuedRow]) -> dict[int, int]:
        """Positions by id of those that were just submitted here, where the end of their queue is known."""
        found: dict[int, int] = {}
        for one in new:
            end = self._ends.get((one.cluster_id, one.priority))
            position = end.position_of(QueuePlace.of(one)) if end is not None and end.believed else None
            if position is not None:
                found[one.id] = position
        return found

    def learn(self, new: Sequence[QueuedRow], found: Mapping[int, int]) -> None:
        """What was counted for those that were just submitted here: they are the ends of their queues."""
        self._ends = {key: end for key, end in self._ends.items() if end.believed}
        for one in new:
            key, place = (one.cluster_id, one.priority), QueuePlace.of(one)
            if key in self._ends:
                self._ends[key].position_of(place)
            elif found[one.id] > FAR_BACK:
                self._ends[key] = _End(place, found[one.id], time.monotonic())

    async def __call__(
        self, connection: AsyncConnection, asked: Sequence[Sequence[QueuedRow]]
    ) -> list[dict[int, int]]:
        """The 1-based position of each, by its id, for every sequence of them."""
        alike: dict[tuple[int, int], list[QueuePlace]] = defaultdict(list)
        for one in (one for each in asked for one in each):
            alike[one.cluster_id, one.priority].append(QueuePlace.of(one))
        found: dict[int, int] = {}
        for places in alike.values():
            found |= await _count(connection, sorted(places, key=lambda place: place.behind))
        return [{one.id: found[one.id] for one in each} for each in asked]


async def _count(connection: AsyncConnection, places: Sequence[QueuePlace]) -> dict[int, int]:
    """Positions of places of one cluster and priority, the first one first."""
    first = await _position(connection, places[0])
    rows = await _between(connection, places[0], places[-1])
    before = bisect_left(rows, places[0].behind)
    return {one.id: first + bisect_left(rows, one.behind) - before for one in places}


async def _position(connection: AsyncConnection, place: QueuePlace) -> int:
    ahead = select(func.count()).select_from(Deployment).where(place.ahead())
    return (await connection.scalar(ahead) or 0) + 1


async def _between(
    connection: AsyncConnection, first: QueuePlace, last: QueuePlace
) -> list[tuple[datetime, int]]:
    """Who is queued with the priority of both, from the time of the first to that of the last."""
    if first == last:
        return []
    rows = await connection.execute(
        BETWEEN,
        {
            "cluster_id": first.cluster_id,
            "priority": first.priority,
            "first": first.created_at,
            "last": last.created_at,
        },
    )
    return sorted((at, id_) for at, id_ in rows)
