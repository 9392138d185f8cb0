"""Who may do what in an organization: dependencies for routes, `resolve_organization` for services.

An organization that the caller is not in does not exist for them: the answer is the same 404.
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
    """The caller in one organization, with a role that was found to be enough."""

    organization_id: int
    name: str
    role: Role
    principal: Principal


def not_found(what: str, id: int) -> NotFound:
    """The one answer for what does not exist and for what belongs to somebody else."""
    return NotFound(f"{what.replace(' ', '_')}_not_found", f"There is no {what} {id} that you can see.")


def check_role(principal: Principal, organization_id: int, minimum: Role, *, hidden: NotFound) -> Role:
    """The caller's role there. Raises `hidden` for non-members, Forbidden for a role below `minimum`.

    For rows found by id: pass the row's own organization and `not_found("deployment", id)`.
    """
    role = principal.role_in(organization_id)
    if role is None:
        raise hidden
    if not role.includes(minimum):
        raise Forbidden(
            "role_too_low", f"This needs the role {minimum} in the organization; yours is {role}."
        )
    return role


async def access_organization(
    session: AsyncSession, principal: Principal, organization_id: int, minimum: Role
) -> OrganizationAccess:
    """The organization, if the caller has at least the role `minimum` there.

    Raises NotFound, Forbidden; Conflict when more than reading is wanted and it is being deleted.
    """
    hidden = not_found("organization", organization_id)
    check_role(principal, organization_id, minimum, hidden=hidden)
    organization = await session.get(Organization, organization_id)
    return judge_access(principal, organization_id, organization, minimum)


def judge_access(
    principal: Principal, organization_id: int, organization: Organization | None, minimum: Role
) -> OrganizationAccess:
    """`access_organization` by the organization's row; None: there is none."""
    hidden = not_found("organization", organization_id)
    role = check_role(principal, organization_id, minimum, hidden=hidden)
    if organization is None:
        raise hidden
    if organization.deleting_at is not None and minimum is not Role.VIEWER:
        raise Conflict("organization_deleting", f"The organization {organization.name!r} is being deleted.")
    return OrganizationAccess(organization_id, organization.name, role, principal)


async def check_access(
    session: AsyncSession, principal: Principal, organization_id: int, minimum: Role, *, hidden: NotFound
) -> None:
    """`check_role` for a row of the organization; more than reading needs an organization that stays.

    Raises `hidden` for non-members, Forbidden for a role below `minimum`, Conflict where it is being deleted.
    """
    check_role(principal, organization_id, minimum, hidden=hidden)
    if minimum is not Role.VIEWER:
        await access_organization(session, principal, organization_id, minimum)


async def resolve_organization(
    session: AsyncSession, principal: Principal, organization_id: int | None, minimum: Role
) -> OrganizationAccess:
    """`access_organization`, where None means the one organization that the caller belongs to.

    Raises Invalid that names the choices (or how to get one) when there is not exactly one.
    """
    if organization_id is None:
        organization_id = only_organization(principal)
    return await access_organization(session, principal, organization_id, minimum)


def still_member(
    logins: GroupCommit[str, Login | None], clock: Clock, principal: Principal, organization_id: int
) -> Callable[[], Awaitable[bool]]:
    """For streams, which outlive the check of their request: whether the login lives on and its user is
    still in the organization. While the database does not answer, what was found last holds.
    """

    async def check() -> bool:
        claims = AccessClaims(principal.user_id, principal.session_id)
        try:
            caller = await load_principal(logins, claims, clock.now())
        except (SQLAlchemyError, OSError):
            return True
        return caller is not None and caller.role_in(organization_id) is not None

    return check


def require(minimum: Role) -> Callable[..., Awaitable[OrganizationAccess]]:
    """A dependency for paths with `{organization_id}`: the caller needs at least this role there."""

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
    """The one organization of the caller. Raises Invalid that names the choices where there is not one."""
    choices = sorted(principal.memberships.values(), key=lambda one: one.organization_id)
    if len(choices) == 1:
        return choices[0].organization_id
    if not choices:
        raise Invalid(
            "no_organization",
            "You are in no organization yet: create one (POST /api/v1/organizations) or join one by code.",
        )
    named = ", ".join(f"{one.organization_id} ({one.name})" for one in choices)
    raise Invalid(
        "organization_id_required",
        f"organization_id is needed, because you are in several organizations: {named}.",
        extra={"organizations": [{"id": one.organization_id, "name": one.name} for one in choices]},
    )
