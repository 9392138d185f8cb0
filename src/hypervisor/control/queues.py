"""The queue of a cluster as the scheduler orders it, and why one deployment waits at this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from hypervisor.api.pages import Page, decode_cursor, encode_cursor
from hypervisor.control.answers import QueuedAnswer, SeatAnswer
from hypervisor.control.snapshots import ClusterView, load_cluster
from hypervisor.deployments.explain import SHOWN_AHEAD, Standing
from hypervisor.identity.principal import Principal
from hypervisor.kernel.priority import priority_label
from hypervisor.scheduling.forecasting.forecast import Verdict, outlook
from hypervisor.scheduling.outcome import ReasonCode
from hypervisor.scheduling.queueing.ordering import OrderComponents, order_components
from hypervisor.store.database import Database, ReadSession
from hypervisor.store.tables import Deployment


async def queue_page(
    database: Database,
    principal: Principal,
    cluster_id: int,
    now: datetime,
    *,
    limit: int,
    cursor: str | None,
) -> Page[QueuedAnswer] | None:
    """One page of the queue, None when the cluster has gone. Those in a back-off are not in the queue.

    The order moves with time, so a page goes on behind the last one of the page before, or at the place
    that it had where it has left the queue.
    """
    after = decode_cursor(cursor, int, int) if cursor else None
    async with database.read() as session:
        view = await load_cluster(session, cluster_id, now)
        if view is None:
            return None
        parts = await asyncio.to_thread(order_components, view.snapshot, view.policy)
        rows = _rows(parts, after)
        shown = rows[:limit]
        stored = await _stored(session, [int(parts.deployment_id[row]) for row in shown])
    nominations = _nominations(view)
    items = [_answer(view, parts, row, stored, nominations, principal) for row in shown]
    return Page(items=items, next_cursor=_cursor(parts, shown[-1]) if len(rows) > limit else None)


@dataclass(frozen=True, slots=True)
class Fresh:
    """Why one deployment waits, and at which place, by a plan that was made to know it."""

    reason: dict[str, object] | None
    standing: Standing


async def fresh_look(database: Database, deployment: Deployment, now: datetime) -> Fresh | None:
    """A queued deployment as the scheduler would see it now; None where it is not in the queue, or where the
    scheduler knows of an obstacle on a machine that only it can see.
    """
    if deployment.reason_code == ReasonCode.NO_ROOM_ON_DISK:
        return None
    async with database.read() as session:
        view = await load_cluster(session, deployment.cluster_id, now)
    if view is None or deployment.id not in view.pending:
        return None
    return await asyncio.to_thread(_look, view, deployment.id)


def _look(view: ClusterView, deployment_id: int) -> Fresh:
    seen = outlook(view.snapshot, view.policy, deployment_id)
    parts = order_components(view.snapshot, view.policy)
    standing = _standing(view, parts, deployment_id)
    if seen.verdict is Verdict.FITS_NOW:
        nodes = dict(zip(view.snapshot.nodes.id.tolist(), view.snapshot.nodes.name, strict=True))
        where = nodes[seen.seats[0].node_id]
        told = f"fits on {where} and starts with the next pass"
        return Fresh({"code": "about_to_start", "sentence": told}, standing)
    return Fresh(seen.reason.as_data() if seen.reason else None, standing)


def _standing(view: ClusterView, parts: OrderComponents, deployment_id: int) -> Standing:
    """Its place, and who of its own organization stands before it: on a shared cluster others may as well."""
    (row,) = (parts.deployment_id == deployment_id).nonzero()[0]
    organization = view.snapshot.pending.organization
    before = ((parts.position < parts.position[row]) & (organization == organization[row])).nonzero()[0]
    first = before[parts.position[before].argsort()][:SHOWN_AHEAD]
    return Standing(int(parts.position[row]) + 1, parts.deployment_id[first].tolist())


def _rows(parts: OrderComponents, after: tuple[int, int] | None) -> Sequence[int]:
    """Rows of the queue in order, those behind the cursor only."""
    rows: list[int] = parts.position.argsort(kind="stable").tolist()
    if after is None:
        return rows
    place, last = after
    found = (parts.deployment_id == last).nonzero()[0]
    start = int(parts.position[found[0]]) + 1 if len(found) else max(0, place - 1)
    return rows[start:]


def _cursor(parts: OrderComponents, row: int) -> str:
    return encode_cursor(int(parts.position[row]) + 1, int(parts.deployment_id[row]))


async def _stored(session: ReadSession, ids: Sequence[int]) -> dict[int, Deployment]:
    rows = await session.scalars(select(Deployment).where(Deployment.id.in_(ids)))
    return {row.id: row for row in rows}


def _nominations(view: ClusterView) -> dict[int, SeatAnswer]:
    nodes = dict(zip(view.snapshot.nodes.id.tolist(), view.snapshot.nodes.name, strict=True))
    return {
        one.deployment_id: SeatAnswer(node=nodes[one.node_id], gpu_indices=list(one.gpu_indices))
        for one in reversed(view.snapshot.nominations)
        if one.node_id in nodes
    }


def _answer(
    view: ClusterView,
    parts: OrderComponents,
    row: int,
    stored: dict[int, Deployment],
    nominations: dict[int, SeatAnswer],
    principal: Principal,
) -> QueuedAnswer:
    id_ = int(parts.deployment_id[row])
    found = stored.get(id_)
    known = found is not None and principal.role_in(found.organization_id) is not None
    mine = found if known else None
    priority = int(parts.priority[row])
    return QueuedAnswer(
        id=mine.id if mine else None,
        name=mine.name if mine else None,
        organization_id=mine.organization_id if mine else None,
        position=int(parts.position[row]) + 1,
        priority=priority,
        priority_label=priority_label(priority),
        share=round(float(parts.share[row]), 6),
        age_factor=round(float(parts.age_factor[row]), 6),
        created_at=datetime.fromtimestamp(float(parts.created_at[row]), UTC),
        waited_seconds=round(view.snapshot.now - float(view.snapshot.pending.eligible_since[row]), 3),
        reason_code=mine.reason_code if mine else None,
        reason=mine.reason if mine else None,
        nomination=nominations.get(id_),
    )
