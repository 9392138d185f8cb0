"""Routes of /auth."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, status

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.permissions import PUBLIC
from hypervisor.api.problems import documented
from hypervisor.api.services import ServicesDep
from hypervisor.identity import repository, service
from hypervisor.identity.principal import CurrentUser
from hypervisor.identity.schemas import (
    ChangePasswordRequest,
    LoginForm,
    LogoutRequest,
    MeResponse,
    OrganizationRoleResponse,
    RefreshRequest,
    RegisterRequest,
    TokenResponse,
    UserResponse,
)
from hypervisor.identity.sessions import Logins
from hypervisor.store.tables import User

router = APIRouter(prefix="/auth", tags=["Accounts"], route_class=JsonRoute)


@router.post(
    "/register",
    status_code=status.HTTP_201_CREATED,
    dependencies=[PUBLIC],
    responses=documented(409, 422, 429),
)
async def register(body: RegisterRequest, services: ServicesDep) -> UserResponse:
    """Create an account. It has no rights until its user creates or joins an organization."""
    user = await service.register(services.database, services.passwords, body, services.clock.now())
    return UserResponse.model_validate(user)


@router.post("/login", summary="Log in", dependencies=[PUBLIC], responses=documented(401, 422, 429))
async def login(form: Annotated[LoginForm, Form()], request: Request, services: ServicesDep) -> TokenResponse:
    """Log in with a username or e-mail address (OAuth2 password form)."""
    address = request.client.host if request.client else None
    return await Logins.of(services).login(form.username, form.password, address)


@router.post("/refresh", summary="Refresh tokens", dependencies=[PUBLIC], responses=documented(401, 422, 429))
async def refresh(body: RefreshRequest, services: ServicesDep) -> TokenResponse:
    """Exchange a refresh token for a new pair. A token works once: a second use ends the login."""
    return await Logins.of(services).refresh(body.refresh_token)


@router.post(
    "/logout", summary="Log out", status_code=status.HTTP_204_NO_CONTENT, responses=documented(401, 422, 429)
)
async def logout(user: CurrentUser, services: ServicesDep, _body: LogoutRequest | None = None) -> None:
    """End this login. Its access and refresh tokens stop working at once."""
    async with services.database.write() as session:
        await repository.revoke_session(session, user.session_id, "logout", services.clock.now())


@router.get("/me", summary="Current user", responses=documented(401, 429))
async def me(user: CurrentUser, services: ServicesDep) -> MeResponse:
    """Return the logged-in user and their role in each organization."""
    async with services.database.read() as session:
        row = await session.get_one(User, user.user_id)
    roles = [OrganizationRoleResponse.model_validate(one) for one in user.memberships.values()]
    return MeResponse(**UserResponse.model_validate(row).model_dump(), organizations=roles)


@router.post(
    "/change-password",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=documented(401, 403, 409, 422, 429),
)
async def change_password(body: ChangePasswordRequest, user: CurrentUser, services: ServicesDep) -> None:
    """Change the password, and end all other logins of this account."""
    await Logins.of(services).change_password(user, body.current_password, body.new_password)
