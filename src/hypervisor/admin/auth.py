"""Login to the admin pages: superusers only, with the password check of the API and a separate session."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette_admin.auth import AdminUser, AuthProvider
from starlette_admin.exceptions import LoginFailed
from starlette_admin.helpers import index_url, safe_redirect_url

from hypervisor.api.services import AppServices
from hypervisor.errors import TooManyRequests, Unauthenticated
from hypervisor.identity import repository
from hypervisor.identity.principal import Principal, load_principal
from hypervisor.identity.sessions import Logins
from hypervisor.infra.security.tokens import InvalidToken

COOKIE = "hypervisor_admin"
COOKIE_PATH = "/admin"
REFUSED = "The username or password is wrong, or this account is not a superuser."


class SuperuserLogin(AuthProvider):
    """Stores the access token of a normal session in a cookie that scripts cannot read."""

    def __init__(self, services: AppServices) -> None:
        super().__init__()
        self._services = services
        self._cookie_path = f"{services.settings.link_prefix}{COOKIE_PATH}"

    async def login(self, username: str, password: str, remember_me: bool, request: Request) -> Response:
        """Log in. Raises LoginFailed. Failed logins count towards the back-off of the API."""
        address = request.client.host if request.client else None
        try:
            tokens = await Logins.of(self._services).login(username, password, address)
        except Unauthenticated:
            raise LoginFailed(REFUSED) from None
        except TooManyRequests as error:
            raise LoginFailed(error.detail) from None
        principal = await self._principal(tokens.access_token)
        if principal is None or not principal.is_superuser:
            await self._end(principal)
            raise LoginFailed(REFUSED)
        fallback = index_url(request)
        target = request.query_params.get("next") or fallback
        response = RedirectResponse(safe_redirect_url(target, request, fallback), status_code=303)
        response.set_cookie(
            COOKIE,
            tokens.access_token,
            max_age=tokens.expires_in,
            path=self._cookie_path,
            secure=request.scope["scheme"] == "https",
            httponly=True,
            samesite="strict",
        )
        return response

    async def logout(self, request: Request) -> Response:
        await self._end(await self._principal(request.cookies.get(COOKIE)))
        response = RedirectResponse(index_url(request), status_code=303)
        response.delete_cookie(COOKIE, path=self._cookie_path)
        return response

    async def authenticate(self, request: Request) -> AdminUser | None:
        principal = await self._principal(request.cookies.get(COOKIE))
        if principal is None or not principal.is_superuser:
            return None
        request.state.principal = principal
        return AdminUser(username=principal.username)

    async def _principal(self, token: str | None) -> Principal | None:
        if token is None:
            return None
        now = self._services.clock.now()
        try:
            claims = self._services.tokens.read(token, now)
        except InvalidToken:
            return None
        return await load_principal(self._services.logins, claims, now)

    async def _end(self, principal: Principal | None) -> None:
        if principal is None:
            return
        async with self._services.database.write() as session:
            await repository.revoke_session(
                session, principal.session_id, "logout", self._services.clock.now()
            )
