"""The queue of a cluster that is not shared, one page at a time.

Its order is that of an index: priority, creation, id. Only deployments with an inherited priority are
elsewhere; they are few, and are merged between the rows. So a page costs its own rows and a count of the rows
ahead of it, whatever the length of the queue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Row, Select, and_, func, select, tuple_

from hypervisor.control.scheduler.snapshot_loader import eligible
from hypervisor.deployments.queue.key import rows_ahead
from hypervisor.deployments.queue.priority_inheritance import inherited_in_queue
from hypervisor.kernel.queue_key import QueueKey
from hypervisor.store.chunks import chunks
from hypervisor.store.database import ReadSession
from hypervisor.store.tables import IS_QUEUED, Deployment

_Row = Row[int, int, datetime, datetime | None]
_ROW: Select[int, int, datetime, datetime | None] = select(
    Deployment.id, Deployment.priority, Deployment.created_at, Deployment.queued_at
)


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One deployment of the queue; `position` is 1-based."""

    key: QueueKey
    position: int
    eligible_since: datetime


async def read_page(
    session: ReadSession, cluster_id: int, now: datetime, after: QueueKey | None, limit: int
) -> tuple[Sequence[QueueEntry], bool]:
    """The first `limit` entries of the queue after the key `after`, and whether there are more."""
    inherited = await _load_inherited(session, cluster_id, now)
    found = {key: since for key, (_, since) in inherited.items() if after is None or key > after}
    own, moved = 0, {key.id for key in inherited}
    async for row in _in_order(session, cluster_id, now, after, limit + 1):
        if row.id not in moved:
            found[QueueKey.of(row.priority, row.created_at, row.id)] = row.queued_at or row.created_at
            own += 1
        if own > limit:
            break
    shown = sorted(found)[:limit]
    if not shown:
        return (), False
    first = 1 if after is None else await _position(session, cluster_id, now, shown[0], inherited)
    return [QueueEntry(key, first + n, found[key]) for n, key in enumerate(shown)], len(found) > limit


async def _load_inherited(
    session: ReadSession, cluster_id: int, now: datetime
) -> dict[QueueKey, tuple[QueueKey, datetime]]:
    """Deployments with an inherited priority: that key -> the own key and the start of the wait."""
    priorities = await inherited_in_queue(session, cluster_id)
    found: dict[QueueKey, tuple[QueueKey, datetime]] = {}
    for chunk in chunks(sorted(priorities)):
        for row in await session.execute(_ROW.where(_queued(cluster_id, now), Deployment.id.in_(chunk))):
            if priorities[row.id].priority > row.priority:
                own = QueueKey.of(row.priority, row.created_at, row.id)
                key = own._replace(negative_priority=-priorities[row.id].priority)
                found[key] = own, row.queued_at or row.created_at
    return found


async def _in_order(
    session: ReadSession, cluster_id: int, now: datetime, after: QueueKey | None, at_once: int
) -> AsyncIterator[_Row]:
    """Rows after `after` by their own priorities, read `at_once` at a time."""
    while True:
        rows: list[_Row] = []
        for behind in _ranges(after):
            query = _ROW.where(_queued(cluster_id, now), *behind).order_by(
                Deployment.priority.desc(), Deployment.created_at, Deployment.id
            )
            rows += await session.execute(query.limit(at_once - len(rows)))
            if len(rows) == at_once:
                break
        for row in rows:
            yield row
        if len(rows) < at_once:
            return
        after = QueueKey.of(rows[-1].priority, rows[-1].created_at, rows[-1].id)


def _ranges(after: QueueKey | None) -> Sequence[Collection[ColumnElement[bool]]]:
    """The rows after a key as consecutive ranges of the index: a single condition with "or" would be tested
    on every row from the head of the queue.
    """
    if after is None:
        return ((),)
    priority, age = after.priority, tuple_(Deployment.created_at, Deployment.id)
    return (
        (Deployment.priority == priority, age > (after.created_at, after.id)),
        (Deployment.priority < priority,),
    )


async def _position(
    session: ReadSession,
    cluster_id: int,
    now: datetime,
    key: QueueKey,
    inherited: dict[QueueKey, tuple[QueueKey, datetime]],
) -> int:
    query = select(func.count()).select_from(Deployment).where(rows_ahead(cluster_id, key), eligible(now))
    overtaking = sum(one < key <= own for one, (own, _) in inherited.items())
    return (await session.scalar(query) or 0) + overtaking + 1


def _queued(cluster_id: int, now: datetime) -> ColumnElement[bool]:
    return and_(Deployment.cluster_id == cluster_id, IS_QUEUED, eligible(now))
