"""Counts and times requests by route template, and writes the access log.

It runs inside of `ProtocolMiddleware`, so that the scope holds the matched route.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hypervisor.api.services import AppServices
from hypervisor.kernel.clock import Clock

UNMATCHED = "(none)"
"""The route label of unknown paths. A path that a client makes up must not become a label."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.get_logger(__name__)


class RequestMetrics:
    """The middleware around the routes."""

    def __init__(self, app: ASGIApp, served: FastAPI) -> None:
        self._app = app
        self._served = served
        self._templates: _Templates | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        services: AppServices = self._served.state.services
        metrics = services.telemetry.metrics
        response = _TimedResponse(send, services.clock)
        metrics.http_in_progress.inc()
        try:
            await self._app(scope, receive, response)
        except asyncio.CancelledError:
            response.cancelled()
            raise
        finally:
            metrics.http_in_progress.dec()
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            route = self._template(scope)
            metrics.http_requests.labels(method, route, str(response.status)).inc()
            metrics.http_seconds.labels(method, route).observe(response.seconds)
            if services.settings.access_log and not is_probe(scope):
                _log_access(scope, route, response)

    def _template(self, scope: Scope) -> str:
        if self._templates is None:
            self._templates = _Templates(self._served)
        return self._templates.of(scope)


def is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Whether this is a health check or a scrape, which gets neither a trace nor a log line."""
    return scope.get("path", "").rstrip("/") in PROBES


class _TimedResponse:
    """Passes a response on and records its status and the time until it started."""

    def __init__(self, send: Send, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._requested = clock.monotonic()
        self._started: float | None = None
        self.status = 500
        """The status that the client gets when the app raises before it responds."""

    def cancelled(self) -> None:
        """Record a shutdown before the response started: `ProtocolMiddleware` responds with 503."""
        if self._started is None:
            self.status = 503

    @property
    def seconds(self) -> float:
        """Time until the response started."""
        until = self._clock.monotonic() if self._started is None else self._started
        return until - self._requested

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = self._clock.monotonic()
            self.status = message["status"]
        await self._send(message)


class _Templates:
    """The full path template of each route. A route of an included router only holds the end of it."""

    def __init__(self, app: FastAPI) -> None:
        self._by_route = {id(each.original_route): each.path for each in iter_route_contexts(app.routes)}
        self._mounts = [route.path for route in app.routes if isinstance(route, Mount)]

    def of(self, scope: Scope) -> str:
        template = self._by_route.get(id(scope.get("route")))
        return template or next(
            (mount for mount in self._mounts if _is_below(scope["path"], mount)), UNMATCHED
        )


def _is_below(path: str, mount: str) -> bool:
    return f"{path}/".startswith(f"{mount}/")


def _log_access(scope: Scope, route: str, response: _TimedResponse) -> None:
    log.info(
        "request.answered",
        method=scope["method"],
        path=scope["path"],
        route=route,
        status=response.status,
        seconds=round(response.seconds, 4),
    )
