"""The queue of a cluster in the scheduler's order, and the reason of one queued deployment as of now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from hypervisor.api.pagination import Page, decode_cursor, encode_cursor
from hypervisor.control.scheduler.quotas import load_quotas
from hypervisor.control.scheduler.snapshot_loader import ClusterView, load_cluster, policy_of
from hypervisor.deployments.history.explain import SHOWN_AHEAD, PlannedPosition
from hypervisor.identity.principal import Principal
from hypervisor.kernel.priority import priority_label
from hypervisor.kernel.queue_key import QueueKey
from hypervisor.planning.queue_page import QueueEntry, read_page
from hypervisor.planning.responses import AssignmentResponse, QueuedResponse
from hypervisor.scheduling.forecasting.forecast import ForecastOutcome, what_if
from hypervisor.scheduling.plan_result import ReasonCode
from hypervisor.scheduling.queueing.ordering import OrderComponents, order_components
from hypervisor.store.database import Database, ReadSession
from hypervisor.store.tables import IS_QUEUED, Cluster, Deployment, Node, NominationRow

LONG_QUEUE = 5000
"""A plan for more queued deployments takes too long for a request: a large part of a second."""


async def queue_page(
    database: Database,
    principal: Principal,
    cluster_id: int,
    now: datetime,
    *,
    limit: int,
    cursor: str | None,
) -> Page[QueuedResponse] | None:
    """One page of the queue, without deployments in a back-off; None when the cluster was deleted.

    A page begins after the last entry of the page before. On a shared cluster the order changes with time. If
    that entry has left the queue, the page begins at its former position.
    """
    after = _decoded(cursor) if cursor else None
    async with database.read() as session:
        cluster = await session.get(Cluster, cluster_id)
        if cluster is None:
            return None
        exclusive = not await load_quotas(session, cluster)
        read = _page_of_rows if exclusive else _page_of_view
        entries, more = await read(session, cluster, now, after, limit)
        ids = [one.key.id for one in entries]
        stored, nominations = await _stored(session, ids), await _nominations(session, ids)
    items = [_answer(one, stored.get(one.key.id), nominations, principal, now) for one in entries]
    last = entries[-1] if more else None
    return Page(items=items, next_cursor=encode_cursor(last.position, *last.key) if last else None)


@dataclass(frozen=True, slots=True)
class PlannedNow:
    """The reason and the position of one queued deployment by a plan made for the request."""

    reason: dict[str, object] | None
    planned: PlannedPosition


async def plan_now(database: Database, deployment: Deployment, now: datetime) -> PlannedNow | None:
    """The reason and position of a queued deployment by a plan of this moment.

    None when it is not in the queue, when its reason is the disk of a machine that only the scheduler can
    check, or when the queue is longer than `LONG_QUEUE`: then the reason of the last pass applies.
    """
    if deployment.reason_code == ReasonCode.NO_ROOM_ON_DISK:
        return None
    async with database.read() as session:
        if await _is_long(session, deployment.cluster_id):
            return None
        view = await load_cluster(session, deployment.cluster_id, now)
    if view is None or deployment.id not in view.pending:
        return None
    return await asyncio.to_thread(_plan, view, deployment.id)


async def _is_long(session: ReadSession, cluster_id: int) -> bool:
    first = select(Deployment.id).where(Deployment.cluster_id == cluster_id, IS_QUEUED).limit(LONG_QUEUE + 1)
    return (await session.scalar(select(func.count()).select_from(first.subquery())) or 0) > LONG_QUEUE


def _plan(view: ClusterView, deployment_id: int) -> PlannedNow:
    result = what_if(view.snapshot, view.policy, deployment_id)
    parts = order_components(view.snapshot, view.policy)
    planned = _position(view, parts, deployment_id)
    if result.outcome is ForecastOutcome.FITS_NOW:
        nodes = dict(zip(view.snapshot.nodes.id.tolist(), view.snapshot.nodes.name, strict=True))
        where = nodes[result.assignments[0].node_id]
        sentence = f"fits on {where} and starts with the next pass"
        return PlannedNow({"code": "about_to_start", "sentence": sentence}, planned)
    return PlannedNow(result.reason.as_data() if result.reason else None, planned)


def _position(view: ClusterView, parts: OrderComponents, deployment_id: int) -> PlannedPosition:
    """Its position, and the first of its organization ahead: on a shared cluster others may be ahead too."""
    (row,) = (parts.deployment_id == deployment_id).nonzero()[0]
    organization = view.snapshot.pending.organization
    before = ((parts.position < parts.position[row]) & (organization == organization[row])).nonzero()[0]
    first = before[parts.position[before].argsort()][:SHOWN_AHEAD]
    return PlannedPosition(int(parts.position[row]) + 1, parts.deployment_id[first].tolist())


@dataclass(frozen=True, slots=True)
class _After:
    """The last entry of the page before."""

    position: int
    key: QueueKey


@dataclass(frozen=True, slots=True)
class _PageEntry:
    """One entry of a page with the components of its position; times in seconds since 1970."""

    key: QueueKey
    position: int
    share: float
    age_factor: float
    eligible_since: float


def _decoded(cursor: str) -> _After:
    position, *key = decode_cursor(cursor, int, int, int, int)
    return _After(position, QueueKey(*key))


async def _page_of_rows(
    session: ReadSession, cluster: Cluster, now: datetime, after: _After | None, limit: int
) -> tuple[Sequence[_PageEntry], bool]:
    """A page of a cluster without quotas: reads only the rows on it."""
    horizon = policy_of(cluster).age_horizon
    shown, more = await read_page(session, cluster.id, now, after.key if after else None, limit)
    return [_page_entry(one, now, horizon) for one in shown], more


def _page_entry(queued: QueueEntry, now: datetime, horizon: float) -> _PageEntry:
    waited = max(0.0, (now - queued.eligible_since).total_seconds())
    since = queued.eligible_since.timestamp()
    return _PageEntry(queued.key, queued.position, 0.0, min(1.0, waited / horizon), since)


async def _page_of_view(
    session: ReadSession, cluster: Cluster, now: datetime, after: _After | None, limit: int
) -> tuple[Sequence[_PageEntry], bool]:
    """A page of a shared cluster, where a position depends on the whole queue and on all that runs."""
    view = await load_cluster(session, cluster.id, now)
    if view is None:
        return (), False
    parts = await asyncio.to_thread(order_components, view.snapshot, view.policy)
    since = view.snapshot.pending.eligible_since
    rows = _rows(parts, after)
    shown = [
        _PageEntry(
            QueueKey(
                -int(parts.priority[row]),
                round(float(parts.created_at[row]) * 1_000_000),
                int(parts.deployment_id[row]),
            ),
            int(parts.position[row]) + 1,
            float(parts.share[row]),
            float(parts.age_factor[row]),
            float(since[row]),
        )
        for row in rows[:limit]
    ]
    return shown, len(rows) > limit


def _rows(parts: OrderComponents, after: _After | None) -> Sequence[int]:
    """The rows of the queue after the cursor, in order."""
    rows: list[int] = parts.position.argsort(kind="stable").tolist()
    if after is None:
        return rows
    found = (parts.deployment_id == after.key.id).nonzero()[0]
    start = int(parts.position[found[0]]) + 1 if len(found) else max(0, after.position - 1)
    return rows[start:]


async def _stored(session: ReadSession, ids: Sequence[int]) -> dict[int, Deployment]:
    rows = await session.scalars(select(Deployment).where(Deployment.id.in_(ids)))
    return {row.id: row for row in rows}


async def _nominations(session: ReadSession, ids: Sequence[int]) -> dict[int, AssignmentResponse]:
    """The nomination of each deployment, that of the first replica for several."""
    rows = await session.execute(
        select(NominationRow.deployment_id, Node.name, NominationRow.gpu_indices)
        .join(Node, Node.id == NominationRow.node_id)
        .where(NominationRow.deployment_id.in_(ids))
        .order_by(NominationRow.replica.desc())
    )
    return {id_: AssignmentResponse(node=node, gpu_indices=list(gpus)) for id_, node, gpus in rows}


def _answer(
    entry: _PageEntry,
    stored: Deployment | None,
    nominations: Mapping[int, AssignmentResponse],
    principal: Principal,
    now: datetime,
) -> QueuedResponse:
    is_visible = stored is not None and principal.role_in(stored.organization_id) is not None
    visible = stored if is_visible else None
    priority = entry.key.priority
    return QueuedResponse(
        id=visible.id if visible else None,
        name=visible.name if visible else None,
        organization_id=visible.organization_id if visible else None,
        position=entry.position,
        priority=priority,
        priority_label=priority_label(priority),
        share=round(entry.share, 6),
        age_factor=round(entry.age_factor, 6),
        created_at=entry.key.created_at,
        waited_seconds=round(now.timestamp() - entry.eligible_since, 3),
        reason_code=visible.reason_code if visible else None,
        reason=visible.reason if visible else None,
        nomination=nominations.get(entry.key.id),
    )
