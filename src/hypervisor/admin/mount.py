"""The mount of the admin pages. Their packages take megabytes, so the first request imports them."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from hypervisor.api.services import AppServices

BASE_URL = "/admin"
_MOUNT_KEYS = frozenset({"app_root_path", "endpoint", "path_params", "route", "router"})


def mount(app: FastAPI, services: AppServices) -> None:
    """Serve the pages under /admin/. The services of the app must be open."""
    app.mount(BASE_URL, _Pages(services))


class _Pages:
    """Forwards requests without the scope of the outer app: the pages build links from their own routes."""

    def __init__(self, services: AppServices) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = self._services.settings.link_prefix
        inner = {key: value for key, value in scope.items() if key not in _MOUNT_KEYS}
        await self._app({**inner, "root_path": prefix, "path": prefix + scope["path"]}, receive, send)

    @cached_property
    def _app(self) -> ASGIApp:
        app: ASGIApp = import_module("hypervisor.admin.pages").build(self._services)
        return app
