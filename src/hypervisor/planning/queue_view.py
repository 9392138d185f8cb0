"""The queue of a cluster as the scheduler orders it, and why one deployment waits at this moment."""

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
"""With more than that waiting, one look takes a good part of a second."""


async def queue_page(
    database: Database,
    principal: Principal,
    cluster_id: int,
    now: datetime,
    *,
    limit: int,
    cursor: str | None,
) -> Page[QueuedResponse] | None:
    """One page of the queue, None when the cluster has gone. Those in a back-off are not in the queue.

    A page goes on behind the last one of the page before. On a shared cluster the order moves with time, and
    that one may have left the queue: then the page goes on at the place that it had.
    """
    after = _decoded(cursor) if cursor else None
    async with database.read() as session:
        cluster = await session.get(Cluster, cluster_id)
        if cluster is None:
            return None
        alone = not await load_quotas(session, cluster)
        read = _page_of_rows if alone else _page_of_view
        stands, more = await read(session, cluster, now, after, limit)
        ids = [one.key.id for one in stands]
        stored, nominations = await _stored(session, ids), await _nominations(session, ids)
    items = [_answer(one, stored.get(one.key.id), nominations, principal, now) for one in stands]
    last = stands[-1] if more else None
    return Page(items=items, next_cursor=encode_cursor(last.position, *last.key) if last else None)


@dataclass(frozen=True, slots=True)
class PlannedNow:
    """Why one deployment waits, and at which place, by a plan that was made to know it."""

    reason: dict[str, object] | None
    planned: PlannedPosition


async def plan_now(database: Database, deployment: Deployment, now: datetime) -> PlannedNow | None:
    """A queued deployment as the scheduler would see it now; None where it is not in the queue, where the
    scheduler knows of an obstacle on a machine that only it can see, or where planning anew for one question
    would keep everybody else waiting: then what its last pass has written must do.
    """
    if deployment.reason_code == ReasonCode.NO_ROOM_ON_DISK:
        return None
    async with database.read() as session:
        if await _is_long(session, deployment.cluster_id):
            return None
        view = await load_cluster(session, deployment.cluster_id, now)
    if view is None or deployment.id not in view.pending:
        return None
    return await asyncio.to_thread(_look, view, deployment.id)


async def _is_long(session: ReadSession, cluster_id: int) -> bool:
    some = select(Deployment.id).where(Deployment.cluster_id == cluster_id, IS_QUEUED).limit(LONG_QUEUE + 1)
    return (await session.scalar(select(func.count()).select_from(some.subquery())) or 0) > LONG_QUEUE


def _look(view: ClusterView, deployment_id: int) -> PlannedNow:
    seen = what_if(view.snapshot, view.policy, deployment_id)
    parts = order_components(view.snapshot, view.policy)
    standing = _standing(view, parts, deployment_id)
    if seen.outcome is ForecastOutcome.FITS_NOW:
        nodes = dict(zip(view.snapshot.nodes.id.tolist(), view.snapshot.nodes.name, strict=True))
        where = nodes[seen.assignments[0].node_id]
        told = f"fits on {where} and starts with the next pass"
        return PlannedNow({"code": "about_to_start", "sentence": told}, standing)
    return PlannedNow(seen.reason.as_data() if seen.reason else None, standing)


def _standing(view: ClusterView, parts: OrderComponents, deployment_id: int) -> PlannedPosition:
    """Its place, and who of its own organization stands before it: on a shared cluster others may as well."""
    (row,) = (parts.deployment_id == deployment_id).nonzero()[0]
    organization = view.snapshot.pending.organization
    before = ((parts.position < parts.position[row]) & (organization == organization[row])).nonzero()[0]
    first = before[parts.position[before].argsort()][:SHOWN_AHEAD]
    return PlannedPosition(int(parts.position[row]) + 1, parts.deployment_id[first].tolist())


@dataclass(frozen=True, slots=True)
class _After:
    """Where the page before ended: at which place, and whom it told last."""

    position: int
    key: QueueKey


@dataclass(frozen=True, slots=True)
class _Stand:
    """Whoever is shown, with what its place is made of; times in seconds since 1970."""

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
) -> tuple[Sequence[_Stand], bool]:
    """Of a cluster without quotas: as many rows as are shown."""
    horizon = policy_of(cluster).age_horizon
    shown, more = await read_page(session, cluster.id, now, after.key if after else None, limit)
    return [_stand(one, now, horizon) for one in shown], more


def _stand(queued: QueueEntry, now: datetime, horizon: float) -> _Stand:
    waited = max(0.0, (now - queued.eligible_since).total_seconds())
    since = queued.eligible_since.timestamp()
    return _Stand(queued.key, queued.position, 0.0, min(1.0, waited / horizon), since)


async def _page_of_view(
    session: ReadSession, cluster: Cluster, now: datetime, after: _After | None, limit: int
) -> tuple[Sequence[_Stand], bool]:
    """Of a shared cluster: there a place depends on the whole queue and on all that runs."""
    view = await load_cluster(session, cluster.id, now)
    if view is None:
        return (), False
    parts = await asyncio.to_thread(order_components, view.snapshot, view.policy)
    since = view.snapshot.pending.eligible_since
    rows = _rows(parts, after)
    shown = [
        _Stand(
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
    """Rows of the queue in order, those behind the cursor only."""
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
    """What is kept for each, of several replicas for the first."""
    rows = await session.execute(
        select(NominationRow.deployment_id, Node.name, NominationRow.gpu_indices)
        .join(Node, Node.id == NominationRow.node_id)
        .where(NominationRow.deployment_id.in_(ids))
        .order_by(NominationRow.replica.desc())
    )
    return {id_: AssignmentResponse(node=node, gpu_indices=list(gpus)) for id_, node, gpus in rows}


def _answer(
    stand: _Stand,
    stored: Deployment | None,
    nominations: Mapping[int, AssignmentResponse],
    principal: Principal,
    now: datetime,
) -> QueuedResponse:
    known = stored is not None and principal.role_in(stored.organization_id) is not None
    mine = stored if known else None
    priority = stand.key.priority
    return QueuedResponse(
        id=mine.id if mine else None,
        name=mine.name if mine else None,
        organization_id=mine.organization_id if mine else None,
        position=stand.position,
        priority=priority,
        priority_label=priority_label(priority),
        share=round(stand.share, 6),
        age_factor=round(stand.age_factor, 6),
        created_at=stand.key.created_at,
        waited_seconds=round(now.timestamp() - stand.eligible_since, 3),
        reason_code=mine.reason_code if mine else None,
        reason=mine.reason if mine else None,
        nomination=nominations.get(stand.key.id),
    )
