"""The HTTP service in this process and its users, for tests of the API."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI

from hypervisor.api.services import AppServices
from hypervisor.app import create_app, running
from hypervisor.identity.service import create_superuser
from hypervisor.kernel.clock import Clock
from hypervisor.settings import Settings
from tests.support.clock import FakeClock

PASSWORD = "a quiet harbour at dawn"
_numbers = itertools.count(1)


@dataclass
class Person:
    """A logged-in user."""

    api: Api
    id: int
    username: str
    email: str
    access_token: str
    refresh_token: str

    async def call(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.access_token}"}
        return await self.api.http.request(method, path, headers=headers, **arguments)

    async def get(self, path: str, **arguments: Any) -> httpx2.Response:
        return await self.call("GET", path, **arguments)

    async def post(self, path: str, json: Any = None, **arguments: Any) -> httpx2.Response:
        return await self.call("POST", path, json=json, **arguments)

    async def patch(self, path: str, json: Any) -> httpx2.Response:
        return await self.call("PATCH", path, json=json)

    async def delete(self, path: str) -> httpx2.Response:
        return await self.call("DELETE", path)

    async def organization(self, name: str | None = None) -> int:
        """Create an organization; its id."""
        answer = await self.post("/api/v1/organizations", {"name": name or f"Team {next(_numbers)}"})
        return int(ok(answer, 201)["id"])

    async def invite(self, organization_id: int, **options: Any) -> str:
        """A new invite code of an organization that this user administers."""
        path = f"/api/v1/organizations/{organization_id}/regenerate-invite"
        return str(ok(await self.post(path, options))["invite_code"])

    async def join(self, code: str) -> httpx2.Response:
        return await self.post("/api/v1/organizations/join", {"invite_code": code})


@dataclass
class Api:
    """The app, its services and an HTTP client that calls it without a network."""

    app: FastAPI
    http: httpx2.AsyncClient
    clock: Any

    @property
    def services(self) -> AppServices:
        services: AppServices = self.app.state.services
        return services

    async def register(self, username: str | None = None, **fields: Any) -> httpx2.Response:
        name = username or f"user{next(_numbers)}"
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD} | fields
        return await self.http.post("/api/v1/auth/register", json=body)

    async def login(self, username: str, password: str = PASSWORD) -> httpx2.Response:
        form = {"username": username, "password": password}
        return await self.http.post("/api/v1/auth/login", data=form)

    async def person(self, username: str | None = None) -> Person:
        """A new account, logged in."""
        user = ok(await self.register(username), 201)
        return await self.log_in(user["username"])

    async def log_in(self, username: str, password: str = PASSWORD) -> Person:
        """A new session of an account."""
        tokens = ok(await self.login(username, password))
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        me = ok(await self.http.get("/api/v1/auth/me", headers=headers))
        return Person(
            self, me["id"], me["username"], me["email"], tokens["access_token"], tokens["refresh_token"]
        )

    async def superuser(self) -> Person:
        name = f"root{next(_numbers)}"
        await create_superuser(self.services.database, self.clock, name, f"{name}@example.com", PASSWORD)
        return await self.log_in(name)

    async def member(self, admin: Person, organization_id: int, role: str) -> Person:
        """A new account that joined the organization with this role."""
        person = await self.person()
        ok(await person.join(await admin.invite(organization_id, role=role)))
        return person


def ok(response: httpx2.Response, status: int = 200) -> Any:
    """The body of a response with the expected status; AssertionError with the body otherwise."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    return response.json() if response.content else None


def problem_body(response: httpx2.Response) -> dict[str, Any]:
    """The body of a problem without the fields that differ between requests."""
    body: dict[str, Any] = response.json()
    body.pop("request_id", None)
    return body


def refused(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem of a refused request with the expected status and code."""
    body: dict[str, Any] = ok(response, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert body["code"] == code, body
    assert body["status"] == status
    return body


@asynccontextmanager
async def running_api(
    database_url: str, data_dir: Path, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Api]:
    """The service on a database, with a clock that stands still until a test moves it, or with `clock`."""
    clock = clock or FakeClock()
    chosen = Settings(
        _env_file=None,
        database_url=database_url,
        data_dir=data_dir,
        **{"rate_limit": "", "default_runtime": "simulated", **settings},
    )
    async with _serving(chosen, clock) as app:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://hypervisor.test") as http:
            yield Api(app, http, clock)


_idle_apps: list[FastAPI] = []


@asynccontextmanager
async def _serving(settings: Settings, clock: Clock) -> AsyncIterator[FastAPI]:
    """An app that serves the settings. Tests reuse apps one after another, because building the routes takes
    a quarter of a second; only an app with tracing cannot be reused.
    """
    lent = not settings.otel_exporter_otlp_endpoint
    app = _idle_apps.pop() if lent and _idle_apps else create_app(settings, clock)
    routes = list(app.router.routes)
    async with running(app, settings, clock) if lent else app.router.lifespan_context(app):
        yield app
    app.router.routes[:] = routes
    if lent:
        _idle_apps.append(app)
