"""Places of new deployments, counted from rows once for all that are asked for at the same time.

Whoever is new stands near the end of those with its priority, so nearly the whole queue would be counted for
each of them. Far back in a long queue, a place is therefore counted from one that was known a moment ago.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hypervisor.deployments.places import QueuePlace, Waiting
from hypervisor.store.tables import IS_QUEUED, Deployment

FAR_BACK = 1000
"""Places up to this one are always those of the rows as they are."""
BELIEVED_SECONDS = 1.0
"""How old what is known of the queue before a place that is farther back may be."""

BETWEEN = select(Deployment.created_at, Deployment.id).where(
    Deployment.cluster_id == bindparam("cluster_id"),
    IS_QUEUED,
    Deployment.priority == bindparam("priority"),
    Deployment.created_at.between(bindparam("first"), bindparam("last")),
)
"""Who is queued with a priority from one time to another."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A place in the queue and its position, by what was counted at `counted_at` (monotonic seconds)."""

    place: QueuePlace
    position: int
    counted_at: float

    def serves(self, place: QueuePlace) -> bool:
        """Whether a place may be counted from this one."""
        believed = time.monotonic() - self.counted_at < BELIEVED_SECONDS
        return believed and self.position > FAR_BACK and self.place.behind <= place.behind


class PlaceCounter:
    """For one database; remembers one place for each cluster and priority."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Known] = {}

    async def __call__(
        self, connection: AsyncConnection, asked: Sequence[Sequence[Waiting]]
    ) -> list[dict[int, int]]:
        """The 1-based position of each, by its id, for every sequence of them."""
        alike: dict[tuple[int, int], list[QueuePlace]] = defaultdict(list)
        for one in (one for each in asked for one in each):
            alike[one.cluster_id, one.priority].append(QueuePlace.of(one))
        found: dict[int, int] = {}
        for key, places in alike.items():
            found |= await self._count(connection, key, sorted(places, key=lambda place: place.behind))
        return [{one.id: found[one.id] for one in each} for each in asked]

    async def _count(
        self, connection: AsyncConnection, key: tuple[int, int], places: Sequence[QueuePlace]
    ) -> dict[int, int]:
        """Positions of places of one cluster and priority, the first one first."""
        known = self._known.get(key)
        if known is None or not known.serves(places[0]):
            known = _Known(places[0], await _position(connection, places[0]), time.monotonic())
        rows = await _between(connection, known.place, places[-1])
        before = bisect_left(rows, known.place.behind)
        found = {one.id: known.position + bisect_left(rows, one.behind) - before for one in places}
        self._known[key] = _Known(places[-1], found[places[-1].id], known.counted_at)
        return found


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
