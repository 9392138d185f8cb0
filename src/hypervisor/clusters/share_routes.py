"""Endpoints for sharing clusters between organizations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response, status

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.pagination import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, encode_cursor, page_of
from hypervisor.api.permissions import declares
from hypervisor.api.problems import documented
from hypervisor.api.schema import OrganizationId
from hypervisor.api.services import AppServices, ServicesDep
from hypervisor.clusters import shares
from hypervisor.clusters.policy import ClusterChanger, ClusterId, ClusterLister, ClusterReader
from hypervisor.clusters.share_schemas import ShareOffer, ShareResponse, ShareUpdate
from hypervisor.identity.principal import CurrentUser, Principal
from hypervisor.kernel.roles import Role
from hypervisor.organizations.access import access_organization, check_role, not_found
from hypervisor.store.database import WriteSession

router = APIRouter(tags=["Shared clusters"], route_class=JsonRoute)
CHANGES = documented(401, 403, 404, 409, 422, 429)


@declares("admin of the organization that the offer is for")
async def answers_offers(
    cluster_id: ClusterId, organization_id: OrganizationId, principal: CurrentUser, services: ServicesDep
) -> Principal:
    """Callers outside the organization get the same 404 as for a missing offer."""
    hidden = not_found("offer of cluster", cluster_id)
    check_role(principal, organization_id, Role.ADMIN, hidden=hidden)
    async with services.database.read() as session:
        await access_organization(session, principal, organization_id, Role.ADMIN)
    return principal


Answerer = Annotated[Principal, Depends(answers_offers)]


@router.get("/cluster-shares", responses=documented(401, 422, 429))
async def list_shares(
    user: ClusterLister, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[ShareResponse]:
    """List the shares that the caller's organizations give and receive, with open offers."""
    after = decode_cursor(cursor, int, int) if cursor else (0, 0)
    async with services.database.read() as session:
        rows = await shares.list_of_organizations(session, user.memberships, after=after, limit=limit + 1)
    return page_of(rows, limit, lambda last: encode_cursor(last.cluster_id, last.organization_id))


@router.get("/clusters/{cluster_id}/shares", responses=documented(401, 404, 422, 429))
async def list_cluster_shares(
    access: ClusterReader, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[ShareResponse]:
    """List the shares of the cluster with their use. Another organization sees only its own share."""
    (after,) = decode_cursor(cursor, int) if cursor else (0,)
    own = None if not access.is_guest else access.principal.memberships
    async with services.database.read() as session:
        rows = await shares.list_of_cluster(session, access.cluster_id, own, after=after, limit=limit + 1)
    return page_of(rows, limit, lambda last: encode_cursor(last.organization_id))


@router.post("/clusters/{cluster_id}/shares", status_code=status.HTTP_201_CREATED, responses=CHANGES)
async def offer_share(body: ShareOffer, access: ClusterChanger, services: ServicesDep) -> ShareResponse:
    """Offer a part of the cluster to another organization; one of its admins accepts or declines."""

    async def work(session: WriteSession) -> ShareResponse:
        return await shares.offer(session, access, body, now=services.clock.now())

    return await _changed(services, await services.database.transact(work))


@router.patch("/clusters/{cluster_id}/shares/{organization_id}", responses=CHANGES)
async def update_share(
    organization_id: OrganizationId, body: ShareUpdate, access: ClusterChanger, services: ServicesDep
) -> ShareResponse:
    """Change the terms. Work above the new terms can be preempted by the usual rules."""

    async def work(session: WriteSession) -> ShareResponse:
        return await shares.update(session, access, organization_id, body, now=services.clock.now())

    return await _changed(services, await services.database.transact(work))


@router.delete(
    "/clusters/{cluster_id}/shares/{organization_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=CHANGES,
)
async def withdraw_share(
    organization_id: OrganizationId, access: ClusterChanger, services: ServicesDep
) -> Response:
    """Withdraw the share: the other organization starts nothing new, and all others may preempt its work."""

    async def work(session: WriteSession) -> None:
        await shares.withdraw(session, access, organization_id, now=services.clock.now())

    await services.database.transact(work)
    services.wakeup.notify("scheduler")
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post("/clusters/{cluster_id}/shares/{organization_id}/accept", responses=CHANGES)
async def accept_share(
    cluster_id: ClusterId, organization_id: OrganizationId, user: Answerer, services: ServicesDep
) -> ShareResponse:
    """Accept the offer. Developers of the organization may then deploy to the cluster."""
    return await _answer(services, user, cluster_id, organization_id, accepts=True)


@router.post("/clusters/{cluster_id}/shares/{organization_id}/decline", responses=CHANGES)
async def decline_share(
    cluster_id: ClusterId, organization_id: OrganizationId, user: Answerer, services: ServicesDep
) -> ShareResponse:
    """Decline the offer, or return an accepted share."""
    return await _answer(services, user, cluster_id, organization_id, accepts=False)


async def _answer(
    services: AppServices, user: Principal, cluster_id: int, organization_id: int, *, accepts: bool
) -> ShareResponse:
    async def work(session: WriteSession) -> ShareResponse:
        now = services.clock.now()
        return await shares.answer(session, user, cluster_id, organization_id, accepts=accepts, now=now)

    return await _changed(services, await services.database.transact(work))


async def _changed(services: AppServices, answer: ShareResponse) -> ShareResponse:
    services.wakeup.notify("scheduler")
    return answer
