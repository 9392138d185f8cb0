"""Counts and times requests by route template, and writes one log line for each when that is wanted.

Sits inside of `Edge`: the routes leave in the scope what they matched.
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
"""The route of requests to paths that do not exist: whatever people try must not become a label."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.get_logger(__name__)


class RequestMetrics:
    """Wraps the routes."""

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
        answer = _Answer(send, services.clock)
        metrics.http_in_progress.inc()
        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            answer.cut_off()
            raise
        finally:
            metrics.http_in_progress.dec()
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            route = self._template(scope)
            metrics.http_requests.labels(method, route, str(answer.status)).inc()
            metrics.http_seconds.labels(method, route).observe(answer.seconds)
            if services.settings.access_log and not is_probe(scope):
                _note(scope, route, answer)

    def _template(self, scope: Scope) -> str:
        if self._templates is None:
            self._templates = _Templates(self._served)
        return self._templates.of(scope)


def is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Whether this is a machine that looks in again and again: not worth a trace or a log line."""
    return scope.get("path", "").rstrip("/") in PROBES


class _Answer:
    """Passes an answer on and remembers its status and how long it took to begin."""

    def __init__(self, send: Send, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._began = clock.monotonic()
        self._until: float | None = None
        self.status = 500
        """What the client sees when the app raises before it answers."""

    def cut_off(self) -> None:
        """The server stops before the answer has begun: `Edge` says so to the client."""
        if self._until is None:
            self.status = 503

    @property
    def seconds(self) -> float:
        return (self._clock.monotonic() if self._until is None else self._until) - self._began

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._until = self._clock.monotonic()
            self.status = message["status"]
        await self._send(message)


class _Templates:
    """The full path template of each route: routes of included routers know only the end of theirs."""

    def __init__(self, app: FastAPI) -> None:
        self._by_route = {id(each.original_route): each.path for each in iter_route_contexts(app.routes)}
        self._mounts = [route.path for route in app.routes if isinstance(route, Mount)]

    def of(self, scope: Scope) -> str:
        known = self._by_route.get(id(scope.get("route")))
        return known or next((mount for mount in self._mounts if _is_below(scope["path"], mount)), UNMATCHED)


def _is_below(path: str, mount: str) -> bool:
    return f"{path}/".startswith(f"{mount}/")


def _note(scope: Scope, route: str, answer: _Answer) -> None:
    log.info(
        "request.answered",
        method=scope["method"],
        path=scope["path"],
        route=route,
        status=answer.status,
        seconds=round(answer.seconds, 4),
    )
