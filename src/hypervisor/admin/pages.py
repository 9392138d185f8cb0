"""The app of the admin pages, with database sessions and a content security policy."""

from __future__ import annotations

from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import URLPath
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_admin.base import BaseAdmin
from starlette_admin.helpers import run_on_commit_callbacks

from hypervisor.admin.auth import SuperuserLogin
from hypervisor.admin.mount import BASE_URL
from hypervisor.admin.views import all_views
from hypervisor.api.services import AppServices

READS = {"GET", "HEAD", "OPTIONS"}

# The pages have inline scripts and handlers. The templates escape all values.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def build(services: AppServices) -> ASGIApp:
    """An app with the pages under /admin/."""
    app = Starlette()
    admin = BaseAdmin(
        title="MLOps Hypervisor",
        base_url=BASE_URL,
        favicon_url=f"{services.settings.link_prefix}/static/docs/favicon.png",
        templates_dir=str(resources.files("hypervisor.admin") / "templates"),
        auth_provider=SuperuserLogin(services),
        secret_key=services.cookie_key,
        middlewares=[Middleware(DatabaseSession, services=services), Middleware(ContentPolicy)],
    )
    for view in all_views():
        admin.add_view(view)
    admin.mount_to(app)
    return _LinksWithoutHost(app)


class _LinksWithoutHost:
    """The app, with links that are paths: a proxy may change the host or end TLS.

    `Request.url_for` asks `scope["router"]` for the path, and takes scheme and host from `Host`.
    """

    def __init__(self, app: Starlette) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [header for header in scope["headers"] if header[0] != b"host"]
        await self._app({**scope, "headers": headers, "server": None, "router": self}, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        return URLPath(str(self._app.url_path_for(name, **path_params)))


class DatabaseSession(BaseHTTPMiddleware):
    """Sets `request.state.session` for starlette-admin: one transaction of this database per request."""

    def __init__(self, app: ASGIApp, services: AppServices) -> None:
        super().__init__(app)
        self._database = services.database

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.method in READS:
            async with self._database.read() as session:
                request.state.session = session
                return await call_next(request)
        response = await self._write(request, call_next)
        if response.status_code < 400:
            await run_on_commit_callbacks(request)
        return response

    async def _write(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        async with self._database.write() as session:
            request.state.session = session
            response = await call_next(request)
            if response.status_code >= 400:
                await session.rollback()
        return response


class ContentPolicy(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-store" if "/static/" not in request.url.path else "no-cache"
        return response
