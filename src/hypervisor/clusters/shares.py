"""Shares of clusters: offer, accept, decline, change, withdraw. Every step is an event on both sides."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.clusters import nodes, repository
from hypervisor.clusters.policy import ClusterAccess
from hypervisor.clusters.responses import Amounts, capacity_of
from hypervisor.clusters.share_schemas import Bounds, LimitAmounts, ShareOffer, ShareResponse, ShareUpdate
from hypervisor.errors import Conflict, Invalid
from hypervisor.events.log import record
from hypervisor.identity.principal import Principal
from hypervisor.kernel.resources import Resources
from hypervisor.organizations.access import not_found
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import IS_QUEUED, Allocation, Cluster, ClusterShare, Deployment

OPEN = ("offered", "accepted")


async def offer(
    session: WriteSession, access: ClusterAccess, request: ShareOffer, *, now: datetime
) -> ShareResponse:
    """Offer a part of the cluster. Raises NotFound (no such organization), Conflict, Invalid."""
    cluster = await nodes.lock_cluster(session, access)
    organization_id = request.organization_id
    if organization_id == cluster.organization_id:
        raise Conflict("own_cluster", "The cluster belongs to this organization; share it with another one.")
    if not await repository.lock_organization_shared(session, organization_id):
        raise not_found("organization", organization_id)
    share = await session.get(ClusterShare, (cluster.id, organization_id))
    if share is not None and share.state in OPEN:
        raise Conflict("already_shared", f"The share is already {share.state}; change it instead.")
    if share is None:
        share = ClusterShare(cluster_id=cluster.id, organization_id=organization_id)
        session.add(share)
    share.state, share.weight_milli = "offered", _milli(request.weight or 1.0)
    share.offered_by, share.offered_at = access.principal.user_id, now
    share.answered_by = share.answered_at = None
    capacity = await _capacity(session, cluster.id)
    _set_guarantee(share, (request.guaranteed or Bounds()).filled(capacity))
    _set_limit(share, request.limit or Bounds())
    await _check_promises(session, share, capacity)
    _record(session, cluster, share, "share_offered", f"the cluster {cluster.name} is offered", now, access)
    return await describe(session, share)


async def update(
    session: WriteSession, access: ClusterAccess, organization_id: int, request: ShareUpdate, *, now: datetime
) -> ShareResponse:
    """Change the terms. The next pass of the scheduler applies them. Raises NotFound, Invalid."""
    cluster, share = await _lock_share(session, access, organization_id)
    capacity = await _capacity(session, cluster.id)
    if request.guaranteed is not None:
        _set_guarantee(share, request.guaranteed.filled(capacity))
    if request.limit is not None:
        _set_limit(share, request.limit)
    if request.weight is not None:
        share.weight_milli = _milli(request.weight)
    await _check_promises(session, share, capacity)
    message = f"the terms of the shared cluster {cluster.name} have changed"
    _record(session, cluster, share, "share_changed", message, now, access)
    return await describe(session, share)


async def withdraw(
    session: WriteSession, access: ClusterAccess, organization_id: int, *, now: datetime
) -> None:
    """End the share. From then on all others may preempt the organization's remaining work there."""
    cluster, share = await _lock_share(session, access, organization_id)
    share.state, share.answered_at = "withdrawn", now
    _record(
        session,
        cluster,
        share,
        "share_withdrawn",
        f"the share of the cluster {cluster.name} has ended",
        now,
        access,
    )


async def answer(
    session: WriteSession,
    principal: Principal,
    cluster_id: int,
    organization_id: int,
    *,
    accepts: bool,
    now: datetime,
) -> ShareResponse:
    """Accept or decline an offer; an accepted share can be declined, too. Raises NotFound, Conflict."""
    hidden = not_found("offer of cluster", cluster_id)
    cluster = await repository.lock_cluster(session, cluster_id)
    share = await session.get(ClusterShare, (cluster_id, organization_id), populate_existing=True)
    if cluster is None or share is None or share.state not in OPEN:
        raise hidden
    if accepts and share.state == "accepted":
        return await describe(session, share)
    state = "accepted" if accepts else "declined"
    share.state, share.answered_by, share.answered_at = state, principal.user_id, now
    for recipient in (cluster.organization_id, share.organization_id):
        record(
            session,
            organization_id=recipient,
            cluster_id=cluster.id,
            at=now,
            actor=principal.actor if recipient == share.organization_id else "system",
            type=f"cluster.share_{state}",
            message=f"the offer of the cluster {cluster.name} was {state}",
        )
    return await describe(session, share)


async def list_of_cluster(
    session: AsyncSession,
    cluster_id: int,
    organization_ids: Collection[int] | None,
    *,
    after: int,
    limit: int,
) -> list[ShareResponse]:
    """The shares of one cluster by organization, limited to `organization_ids` where given."""
    query = select(ClusterShare).where(
        ClusterShare.cluster_id == cluster_id, ClusterShare.organization_id > after
    )
    if organization_ids is not None:
        query = query.where(ClusterShare.organization_id.in_(sorted(organization_ids)))
    rows = await session.scalars(query.order_by(ClusterShare.organization_id).limit(limit))
    return [await describe(session, row) for row in rows.all()]


async def list_of_organizations(
    session: AsyncSession, organization_ids: Collection[int], *, after: tuple[int, int], limit: int
) -> list[ShareResponse]:
    """Shares that these organizations give and receive, by cluster."""
    ids = sorted(organization_ids)
    rows = await session.scalars(
        select(ClusterShare)
        .join(Cluster, Cluster.id == ClusterShare.cluster_id)
        .where(
            or_(Cluster.organization_id.in_(ids), ClusterShare.organization_id.in_(ids)),
            or_(
                ClusterShare.cluster_id > after[0],
                (ClusterShare.cluster_id == after[0]) & (ClusterShare.organization_id > after[1]),
            ),
        )
        .order_by(ClusterShare.cluster_id, ClusterShare.organization_id)
        .limit(limit)
    )
    return [await describe(session, row) for row in rows.all()]


async def describe(session: AsyncSession, share: ClusterShare) -> ShareResponse:
    """The share with its current use."""
    await session.flush()
    cluster = await session.get_one(Cluster, share.cluster_id)
    own = (Deployment.cluster_id == share.cluster_id, Deployment.organization_id == share.organization_id)
    held = select(
        func.coalesce(func.sum(Allocation.cpu_milli), 0),
        func.coalesce(func.sum(Allocation.ram_mib), 0),
        func.coalesce(func.sum(Allocation.gpu_milli), 0),
    ).join(Deployment, Deployment.id == Allocation.deployment_id)
    cpu, ram, gpu = (await session.execute(held.where(*own))).one()
    waiting = select(func.count()).where(*own, IS_QUEUED)
    guaranteed = Resources(share.guaranteed_cpu_milli, share.guaranteed_ram_mib, share.guaranteed_gpu_milli)
    return ShareResponse(
        cluster_id=share.cluster_id,
        cluster_name=cluster.name,
        organization_id=share.organization_id,
        state=share.state,
        guaranteed=Amounts.of(guaranteed),
        limit=LimitAmounts(
            cpu_cores=None if share.limit_cpu_milli is None else share.limit_cpu_milli / 1000,
            ram_gb=None if share.limit_ram_mib is None else share.limit_ram_mib / 1024,
            gpu_count=None if share.limit_gpu_milli is None else share.limit_gpu_milli / 1000,
        ),
        weight=share.weight_milli / 1000,
        used=Amounts.of(Resources(int(cpu), int(ram), int(gpu))),
        waiting=await session.scalar(waiting) or 0,
        offered_at=share.offered_at,
        answered_at=share.answered_at,
    )


async def _lock_share(
    session: WriteSession, access: ClusterAccess, organization_id: int
) -> tuple[Cluster, ClusterShare]:
    """The share, under the lock of its cluster, which submits hold as well."""
    cluster = await nodes.lock_cluster(session, access)
    share = await session.get(ClusterShare, (cluster.id, organization_id), populate_existing=True)
    if share is None or share.state not in OPEN:
        raise not_found("share for organization", organization_id)
    return cluster, share


async def _capacity(session: AsyncSession, cluster_id: int) -> Resources:
    found = (await repository.nodes_of(session, [cluster_id])).get(cluster_id, [])
    return sum((capacity_of(node) for node in found), Resources())


async def _check_promises(session: AsyncSession, share: ClusterShare, capacity: Resources) -> None:
    """Raises Invalid when all guarantees together exceed the cluster."""
    others = await session.scalars(
        select(ClusterShare).where(
            ClusterShare.cluster_id == share.cluster_id,
            ClusterShare.organization_id != share.organization_id,
            ClusterShare.state.in_(OPEN),
        )
    )
    promised = sum((_guarantee(other) for other in others), _guarantee(share))
    over = promised.shortfall(capacity)
    if not over.is_zero:
        raise Invalid(
            "promises_exceed_cluster",
            f"All guarantees together would exceed the cluster by {over.cpu_cores:g} cores, "
            f"{over.ram_gb:g} GB and {over.gpu_count:g} GPUs. Lower this guarantee or another one.",
        )


def _guarantee(share: ClusterShare) -> Resources:
    return Resources(share.guaranteed_cpu_milli, share.guaranteed_ram_mib, share.guaranteed_gpu_milli)


def _set_guarantee(share: ClusterShare, amount: Resources) -> None:
    share.guaranteed_cpu_milli = amount.cpu_milli
    share.guaranteed_ram_mib = amount.ram_mib
    share.guaranteed_gpu_milli = amount.gpu_milli


def _set_limit(share: ClusterShare, limit: Bounds) -> None:
    share.limit_cpu_milli, share.limit_ram_mib, share.limit_gpu_milli = limit.amounts


def _milli(weight: float) -> int:
    return round(weight * 1000)


def _record(
    session: WriteSession,
    cluster: Cluster,
    share: ClusterShare,
    kind: str,
    message: str,
    now: datetime,
    access: ClusterAccess,
) -> None:
    """Record an event for both organizations. Only the owner's event names the actor."""
    for recipient in (cluster.organization_id, share.organization_id):
        record(
            session,
            organization_id=recipient,
            cluster_id=cluster.id,
            at=now,
            actor=access.principal.actor if recipient == cluster.organization_id else "system",
            type=f"cluster.{kind}",
            message=message,
        )
