"""The principal of a request: the caller, read from the database for each request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer
from fastapi.security.base import SecurityBase
from sqlalchemy.ext.asyncio import AsyncConnection

from hypervisor.api.permissions import declares
from hypervisor.api.services import AppServices, services_of
from hypervisor.errors import Forbidden, Unauthenticated
from hypervisor.events.log import user_actor
from hypervisor.identity import repository
from hypervisor.identity.repository import Login
from hypervisor.infra.ratelimit import address_key
from hypervisor.infra.security.tokens import AccessClaims, InvalidToken
from hypervisor.kernel.roles import Role
from hypervisor.store.group_commit import GroupCommit

LOGIN_PATH = "/api/v1/auth/login"


@dataclass(frozen=True, slots=True)
class OrganizationRole:
    """The role of a user in one organization."""

    organization_id: int
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Principal:
    """An active user with a live session. `memberships` is keyed by organization id."""

    user_id: int
    username: str
    is_superuser: bool
    session_id: str
    memberships: Mapping[int, OrganizationRole] = field(default_factory=dict)

    @property
    def actor(self) -> str:
        """This user as the actor of events."""
        return user_actor(self.user_id)

    def role_in(self, organization_id: int) -> Role | None:
        """The role in an organization. None for a non-member. A superuser is admin in every organization."""
        if self.is_superuser:
            return Role.ADMIN
        membership = self.memberships.get(organization_id)
        return membership.role if membership else None


_bearer = OAuth2PasswordBearer(
    tokenUrl=LOGIN_PATH,
    auto_error=False,
    description="Log in with a username or e-mail address, and a password.",
)


BearerToken = Annotated[str | None, Depends(_bearer)]


class Authentication(SecurityBase):
    """The bearer scheme, which also loads the caller.

    This is one dependency instead of three, because resolving a dependency costs more than most of them do.
    """

    def __init__(self) -> None:
        self.model = _bearer.model
        self.scheme_name = _bearer.scheme_name

    async def __call__(self, request: Request) -> Principal:
        """Return the caller. Counts the request for the rate limit of the user, or of the address.

        Raises Unauthenticated, TooManyRequests.
        """
        services = await services_of(request)
        try:
            principal = await _identify(services, await _bearer(request))
        except Unauthenticated:
            address = address_key(request.client.host if request.client else None)
            await _count(services, f"address:{address}")
            raise
        await _count(services, f"user:{principal.user_id}")
        return principal


authenticated = declares("authenticated")(Authentication())
CurrentUser = Annotated[Principal, Depends(authenticated)]


@declares("superuser")
async def superuser(principal: CurrentUser) -> Principal:
    """The caller, who must be a superuser. Raises Forbidden."""
    if not principal.is_superuser:
        raise Forbidden("superuser_only", "Only a superuser can do this.")
    return principal


Superuser = Annotated[Principal, Depends(superuser)]


async def load_principal(
    logins: GroupCommit[str, Login | None], claims: AccessClaims, now: datetime
) -> Principal | None:
    """Return the user of a live session. None if the session has ended or expired.

    `logins` are those of `AppServices`.
    """
    login = await logins.submit(claims.session_id)
    if login is None or login.user_id != claims.user_id or login.expires_at <= now:
        return None
    return Principal(
        user_id=login.user_id,
        username=login.username,
        is_superuser=login.is_superuser,
        session_id=claims.session_id,
        memberships={row.id: OrganizationRole(row.id, row.name, Role(row.role)) for row in login.memberships},
    )


async def read_logins(connection: AsyncConnection, session_ids: Sequence[str]) -> list[Login | None]:
    """Load the logins of concurrent requests in one query, for `AppServices.logins`.

    Nothing is cached between requests.
    """
    logins = await repository.logins(connection, session_ids)
    return [logins.get(session_id) for session_id in session_ids]


async def _identify(services: AppServices, token: str | None) -> Principal:
    if token is None:
        raise _unauthenticated(
            "not_authenticated",
            "This needs an access token. Log in and send `Authorization: Bearer <token>`.",
        )
    now = services.clock.now()
    try:
        claims = services.tokens.read(token, now)
    except InvalidToken:
        raise _unauthenticated(
            "invalid_token", "The access token is not valid or has expired. Refresh it or log in again."
        ) from None
    principal = await load_principal(services.logins, claims, now)
    if principal is None:
        raise _unauthenticated("session_ended", "This login has ended. Log in again.")
    return principal


def _unauthenticated(code: str, detail: str) -> Unauthenticated:
    return Unauthenticated(code, detail, headers={"WWW-Authenticate": "Bearer"})


async def _count(services: AppServices, key: str) -> None:
    if services.request_limit is not None:
        await services.limiter.check(services.request_limit, "requests", key)
