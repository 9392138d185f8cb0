"""Mounts the admin pages on the app. What they are made of is loaded with the first request for one: most
processes never get one, and it takes megabytes.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from hypervisor.api.services import AppServices

BASE_URL = "/admin"
_OF_THE_MOUNT = frozenset({"app_root_path", "endpoint", "path_params", "route", "router"})


def mount(app: FastAPI, services: AppServices) -> None:
    """Serve the pages below /admin/ of an app whose services is ready."""
    app.mount(BASE_URL, _Pages(services))


class _Pages:
    """Passes requests on as if there was no app above: the pages make their links by their own routes."""

    def __init__(self, services: AppServices) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = {key: value for key, value in scope.items() if key not in _OF_THE_MOUNT}
        await self._app({**inner, "root_path": scope.get("app_root_path", "")}, receive, send)

    @cached_property
    def _app(self) -> ASGIApp:
        app: ASGIApp = import_module("hypervisor.admin.pages").build(self._services)
        return app
