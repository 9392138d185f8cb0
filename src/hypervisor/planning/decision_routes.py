"""Endpoints about stored decisions."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import select

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.pagination import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, encode_cursor, page_of
from hypervisor.api.permissions import declares
from hypervisor.api.problems import documented
from hypervisor.api.schema import MAX_BIG_ID
from hypervisor.api.services import ServicesDep
from hypervisor.clusters.policy import ClusterReader
from hypervisor.errors import Forbidden
from hypervisor.identity.principal import CurrentUser, Principal
from hypervisor.kernel.roles import Role
from hypervisor.organizations.access import check_role, not_found
from hypervisor.planning.responses import DecisionResponse
from hypervisor.store.database import ReadSession
from hypervisor.store.tables import Cluster, ClusterShare, Decision

router = APIRouter(tags=["Clusters"], route_class=JsonRoute)

READS = documented(401, 404, 422, 429)


@dataclass(frozen=True, slots=True)
class DecisionAccess:
    """The caller and one decision about a cluster of one of their organizations."""

    decision_id: int
    cluster_id: int
    principal: Principal


@declares("viewer of the cluster's organization")
async def reads_decision(
    decision_id: Annotated[int, Path(ge=1, le=MAX_BIG_ID, description="The decision's id.")],
    principal: CurrentUser,
    services: ServicesDep,
) -> DecisionAccess:
    hidden = not_found("decision", decision_id)
    owner = select(Cluster.id, Cluster.organization_id).join(Decision, Decision.cluster_id == Cluster.id)
    async with services.database.read() as session:
        found = (await session.execute(owner.where(Decision.id == decision_id))).one_or_none()
    if found is None:
        raise hidden
    check_role(principal, found.organization_id, Role.VIEWER, hidden=hidden)
    return DecisionAccess(decision_id, found.id, principal)


DecisionReader = Annotated[DecisionAccess, Depends(reads_decision)]


@router.get("/clusters/{cluster_id}/decisions", responses=READS)
async def list_decisions(
    access: ClusterReader, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[DecisionResponse]:
    """The stored scheduler passes on this cluster that changed something, newest first."""
    if access.is_guest:
        raise access.hidden
    (before,) = decode_cursor(cursor, int) if cursor else (MAX_BIG_ID,)
    query = (
        select(Decision)
        .where(Decision.cluster_id == access.cluster_id, Decision.id < before)
        .order_by(Decision.id.desc())
        .limit(limit + 1)
    )
    async with services.database.read() as session:
        answers = [_answer(row) for row in await session.scalars(query)]
    return page_of(answers, limit, lambda last: encode_cursor(last.id))


@router.get("/decisions/{decision_id}", responses=documented(401, 403, 404, 422, 429))
async def get_decision(
    access: DecisionReader,
    services: ServicesDep,
    snapshot: Annotated[bool, Query(description="With the stored snapshot, in base64.")] = False,
) -> DecisionResponse:
    """One decision; `hypervisor replay` computes its plan again from the snapshot and compares the two."""
    async with services.database.read() as session:
        row = await session.get(Decision, access.decision_id)
        if row is None:
            raise not_found("decision", access.decision_id)
        answer = _answer(row)
        if snapshot:
            await _check_not_shared(session, access)
            blob = await session.scalar(select(Decision.snapshot).where(Decision.id == row.id))
            answer.snapshot = base64.b64encode(blob or b"").decode()
    return answer


async def _check_not_shared(session: ReadSession, access: DecisionAccess) -> None:
    """Raise Forbidden on a shared cluster: the snapshot has the deployments of other organizations."""
    if access.principal.is_superuser:
        return
    shared = select(ClusterShare.cluster_id).where(
        ClusterShare.cluster_id == access.cluster_id, ClusterShare.state != "offered"
    )
    if await session.scalar(shared.limit(1)) is not None:
        raise Forbidden(
            "cluster_is_shared",
            "This snapshot has deployments of other organizations: only a superuser may read it.",
        )


def _answer(row: Decision) -> DecisionResponse:
    """Without the snapshot, which is a deferred column."""
    return DecisionResponse(
        id=row.id,
        cluster_id=row.cluster_id,
        at=row.at,
        epoch=row.epoch,
        snapshot_hash=row.snapshot_hash,
        snapshot_bytes=row.snapshot_bytes,
        plan_hash=row.plan_hash,
        placements=row.placements,
        evictions=row.evictions,
        nominations=row.nominations,
        waiting=row.waiting,
    )
