"""Routes of /organizations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response, status

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.pagination import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, encode_cursor, page_of
from hypervisor.api.problems import documented
from hypervisor.api.schema import MAX_ID, OrganizationId
from hypervisor.api.services import AppServices, ServicesDep
from hypervisor.identity.principal import CurrentUser, Principal
from hypervisor.kernel.roles import Role
from hypervisor.organizations import invites, repository, service
from hypervisor.organizations.access import AdminAccess, ViewerAccess
from hypervisor.organizations.policy import check_removal
from hypervisor.organizations.schemas import (
    InviteCode,
    InviteOptions,
    InviteResponse,
    JoinRequest,
    MemberResponse,
    MemberUpdate,
    OrganizationCreate,
    OrganizationResponse,
    OrganizationUpdate,
)
from hypervisor.store.tables import Organization

router = APIRouter(prefix="/organizations", tags=["Organizations"], route_class=JsonRoute)

UserId = Annotated[int, Path(ge=1, le=MAX_ID, description="The member's user id.")]


@router.post("", status_code=status.HTTP_201_CREATED, responses=documented(401, 409, 422, 429))
async def create_organization(
    body: OrganizationCreate, user: CurrentUser, services: ServicesDep
) -> OrganizationResponse:
    """Create an organization. The caller becomes its admin."""
    async with services.database.write() as session:
        organization = await service.create(
            session, services.encryptor, user, body.name, services.clock.now()
        )
    return _response(organization, Role.ADMIN)


@router.get("", responses=documented(401, 422, 429))
async def list_organizations(
    user: CurrentUser, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[OrganizationResponse]:
    """List the caller's organizations by id. A superuser gets all organizations."""
    (after,) = decode_cursor(cursor, int) if cursor else (0,)
    member = None if user.is_superuser else user.user_id
    async with services.database.read() as session:
        rows = await repository.page(session, member=member, after=after, limit=limit + 1)
    responses = [_response(row, Role(role) if role else Role.ADMIN) for row, role in rows]
    return page_of(responses, limit, lambda last: encode_cursor(last.id))


@router.post("/join", responses=documented(401, 404, 409, 422, 429))
async def join_organization(
    body: JoinRequest, user: CurrentUser, services: ServicesDep
) -> OrganizationResponse:
    """Join an organization with an invite code."""
    return await _join(services, user, body.invite_code)


@router.post("/join/{invite_code}", include_in_schema=False)
async def join_organization_by_path(
    invite_code: InviteCode, user: CurrentUser, services: ServicesDep
) -> OrganizationResponse:
    """Like /join, with the code in the path."""
    return await _join(services, user, invite_code)


@router.get("/{organization_id}", responses=documented(401, 404, 422, 429))
async def get_organization(access: ViewerAccess, services: ServicesDep) -> OrganizationResponse:
    """Return one organization of the caller."""
    async with services.database.read() as session:
        organization = await session.get_one(Organization, access.organization_id)
    return _response(organization, access.role)


@router.patch("/{organization_id}", responses=documented(401, 403, 404, 409, 422, 429))
async def update_organization(
    body: OrganizationUpdate, access: AdminAccess, services: ServicesDep
) -> OrganizationResponse:
    """Rename the organization."""
    async with services.database.write() as session:
        organization = await service.rename(session, access, body.name, services.clock.now())
    return _response(organization, access.role)


router.add_api_route(
    "/{organization_id}",
    update_organization,
    methods=["PUT"],
    operation_id="replace_organization",
    responses=documented(401, 403, 404, 409, 422, 429),
)


@router.delete(
    "/{organization_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses={
        202: {
            "description": "Accepted. Deployments are being stopped; the organization is deleted after that."
        },
        **documented(401, 403, 404, 409, 422, 429),
    },
)
async def delete_organization(
    access: AdminAccess,
    services: ServicesDep,
    force: Annotated[
        bool, Query(description="Stop running deployments first instead of refusing the request.")
    ] = False,
) -> Response:
    """Delete the organization and everything in it. Refused while deployments run, unless `force`."""
    async with services.database.write() as session:
        deleted = await service.delete(session, access, services.clock.now(), force=force)
    services.wakeup.notify("maintenance")
    return Response(status_code=status.HTTP_204_NO_CONTENT if deleted else status.HTTP_202_ACCEPTED)


@router.get("/{organization_id}/invite-code", responses=documented(401, 403, 404, 422, 429))
async def get_invite_code(access: AdminAccess, services: ServicesDep) -> InviteResponse:
    """Return the current invite code with its role, expiry, limit and number of uses."""
    async with services.database.read() as session:
        return await invites.current(session, services.encryptor, access)


@router.post("/{organization_id}/regenerate-invite", responses=documented(401, 403, 404, 409, 422, 429))
async def regenerate_invite(
    access: AdminAccess, services: ServicesDep, body: InviteOptions | None = None
) -> InviteResponse:
    """Create a new invite code. The old one stops working."""
    async with services.database.write() as session:
        return await invites.replace(
            session, services.encryptor, access, body or InviteOptions(), services.clock.now()
        )


@router.post("/{organization_id}/join", include_in_schema=False)
async def join_named_organization(
    organization_id: OrganizationId, body: JoinRequest, user: CurrentUser, services: ServicesDep
) -> OrganizationResponse:
    """Like /join, for a code of this organization only."""
    return await _join(services, user, body.invite_code, organization_id)


@router.get("/{organization_id}/members", responses=documented(401, 404, 422, 429))
async def list_members(
    access: ViewerAccess, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[MemberResponse]:
    """List the members with their roles, by user id."""
    (after,) = decode_cursor(cursor, int) if cursor else (0,)
    async with services.database.read() as session:
        rows = await repository.members(session, access.organization_id, after=after, limit=limit + 1)
    responses = [MemberResponse.model_validate(row) for row in rows]
    return page_of(responses, limit, lambda last: encode_cursor(last.user_id))


@router.patch("/{organization_id}/members/{user_id}", responses=documented(401, 403, 404, 409, 422, 429))
async def change_member_role(
    user_id: UserId, body: MemberUpdate, access: AdminAccess, services: ServicesDep
) -> MemberResponse:
    """Change the role of a member. The last admin must stay admin."""
    async with services.database.write() as session:
        row = await service.change_role(session, access, user_id, body.role, services.clock.now())
    return MemberResponse.model_validate(row)


@router.delete(
    "/{organization_id}/members/{user_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=documented(401, 403, 404, 409, 422, 429),
)
async def remove_member(user_id: UserId, access: ViewerAccess, services: ServicesDep) -> None:
    """Remove a member (admins only), or leave. A removed member still has the invite code: regenerate it."""
    check_removal(access.role, is_self=user_id == access.principal.user_id)
    async with services.database.write() as session:
        await service.remove_member(session, access, user_id, services.clock.now())


async def _join(
    services: AppServices, user: Principal, code: str, organization_id: int | None = None
) -> OrganizationResponse:
    async with services.database.write() as session:
        access = await invites.join(
            session, user, code, services.clock.now(), organization_id=organization_id
        )
        organization = await session.get_one(Organization, access.organization_id)
    return _response(organization, access.role)


def _response(organization: Organization, role: Role) -> OrganizationResponse:
    return OrganizationResponse(
        id=organization.id,
        name=organization.name,
        role=role,
        created_at=organization.created_at,
        deleting_at=organization.deleting_at,
    )
