"""Access checks for organizations: dependencies for routes, `resolve_organization` for services.

A non-member gets the same 404 as for an organization that does not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.api.permissions import declares
from hypervisor.api.schema import OrganizationId
from hypervisor.api.services import ServicesDep
from hypervisor.errors import Conflict, Forbidden, Invalid, NotFound
from hypervisor.identity.principal import CurrentUser, Principal, load_principal
from hypervisor.identity.repository import Login
from hypervisor.infra.security.tokens import AccessClaims
from hypervisor.kernel.clock import Clock
from hypervisor.kernel.roles import Role
from hypervisor.store.group_commit import GroupCommit
from hypervisor.store.tables import Organization


@dataclass(frozen=True, slots=True)
class OrganizationAccess:
    """The caller in one organization, with a role that was checked."""

    organization_id: int
    name: str
    role: Role
    principal: Principal


def not_found(kind: str, id: int) -> NotFound:
    """The error for a missing object. An object without access gets the same one."""
    return NotFound(
        f"{kind.replace(' ', '_')}_not_found", f"There is no {kind} {id}, or you have no access to it."
    )


def check_role(principal: Principal, organization_id: int, minimum: Role, *, hidden: NotFound) -> Role:
    """Return the caller's role. Raises `hidden` for non-members, Forbidden for a role below `minimum`.

    For a row that was loaded by id: pass the row's organization, and `not_found("deployment", id)`.
    """
    role = principal.role_in(organization_id)
    if role is None:
        raise hidden
    if not role.includes(minimum):
        raise Forbidden(
            "role_too_low",
            f"This needs the role {minimum} in the organization. Your role is {role}.",
        )
    return role


async def access_organization(
    session: AsyncSession, principal: Principal, organization_id: int, minimum: Role
) -> OrganizationAccess:
    """Load the organization, and check that the caller has at least the role `minimum` in it.

    Raises NotFound, Forbidden; Conflict for more than reading in an organization that is being deleted.
    """
    hidden = not_found("organization", organization_id)
    check_role(principal, organization_id, minimum, hidden=hidden)
    organization = await session.get(Organization, organization_id)
    return access_from_row(principal, organization_id, organization, minimum)


def access_from_row(
    principal: Principal, organization_id: int, organization: Organization | None, minimum: Role
) -> OrganizationAccess:
    """`access_organization` for a loaded row. `organization` None: there is no such row."""
    hidden = not_found("organization", organization_id)
    role = check_role(principal, organization_id, minimum, hidden=hidden)
    if organization is None:
        raise hidden
    if organization.deleting_at is not None and minimum is not Role.VIEWER:
        raise Conflict(
            "organization_deleting",
            f"The organization {organization.name!r} is being deleted and cannot be changed.",
        )
    return OrganizationAccess(organization_id, organization.name, role, principal)


async def check_access(
    session: AsyncSession, principal: Principal, organization_id: int, minimum: Role, *, hidden: NotFound
) -> None:
    """`check_role` for a row of the organization, which must not be in deletion for more than reading.

    Raises `hidden` for non-members, Forbidden for a role below `minimum`, Conflict during a deletion.
    """
    check_role(principal, organization_id, minimum, hidden=hidden)
    if minimum is not Role.VIEWER:
        await access_organization(session, principal, organization_id, minimum)


async def resolve_organization(
    session: AsyncSession, principal: Principal, organization_id: int | None, minimum: Role
) -> OrganizationAccess:
    """`access_organization`. None means the caller's only organization.

    Raises Invalid if the caller is not in exactly one organization, with the choices.
    """
    if organization_id is None:
        organization_id = only_organization(principal)
    return await access_organization(session, principal, organization_id, minimum)


def still_member(
    logins: GroupCommit[str, Login | None], clock: Clock, principal: Principal, organization_id: int
) -> Callable[[], Awaitable[bool]]:
    """Return a check for streams, which outlive the check of their request.

    It returns whether the login is live and its user is still in the organization. While the database does
    not answer, the access continues.
    """

    async def check() -> bool:
        claims = AccessClaims(principal.user_id, principal.session_id)
        try:
            current = await load_principal(logins, claims, clock.now())
        except (SQLAlchemyError, OSError):
            return True
        return current is not None and current.role_in(organization_id) is not None

    return check


def require(minimum: Role) -> Callable[..., Awaitable[OrganizationAccess]]:
    """A dependency for paths with `{organization_id}`: the caller needs at least this role."""

    @declares(f"{minimum} of the organization")
    async def check(
        organization_id: OrganizationId, principal: CurrentUser, services: ServicesDep
    ) -> OrganizationAccess:
        async with services.database.read() as session:
            return await access_organization(session, principal, organization_id, minimum)

    return check


ViewerAccess = Annotated[OrganizationAccess, Depends(require(Role.VIEWER))]
DeveloperAccess = Annotated[OrganizationAccess, Depends(require(Role.DEVELOPER))]
AdminAccess = Annotated[OrganizationAccess, Depends(require(Role.ADMIN))]


def only_organization(principal: Principal) -> int:
    """Return the id of the caller's only organization. Raises Invalid with the choices otherwise."""
    choices = sorted(principal.memberships.values(), key=lambda role: role.organization_id)
    if len(choices) == 1:
        return choices[0].organization_id
    if not choices:
        raise Invalid(
            "no_organization",
            "You are in no organization. Create one (POST /api/v1/organizations) or join one by invite code.",
        )
    named = ", ".join(f"{one.organization_id} ({one.name})" for one in choices)
    raise Invalid(
        "organization_id_required",
        f"You are in several organizations. Set organization_id to one of: {named}.",
        extra={"organizations": [{"id": one.organization_id, "name": one.name} for one in choices]},
    )
