"""Declared permissions: every route must have one.

`@declares("...")` marks a dependency that checks the caller. `undeclared_routes` finds the routes without
one; the app refuses to start if there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import Request
from starlette.routing import BaseRoute

from hypervisor.api.services import ServicesDep
from hypervisor.infra.ratelimit import address_key

F = TypeVar("F", bound=Callable[..., object])
_MARK = "__hypervisor_permission__"


def declares(permission: str) -> Callable[[F], F]:
    """Mark a dependency as the permission check of a route, e.g. "developer of the organization"."""

    def mark(dependency: F) -> F:
        setattr(dependency, _MARK, permission)
        return dependency

    return mark


@declares("public")
async def _anyone(request: Request, services: ServicesDep) -> None:
    if services.request_limit is not None:
        address = address_key(request.client.host if request.client else None)
        await services.limiter.check(services.request_limit, "requests", f"address:{address}")


PUBLIC = Depends(_anyone)
"""For `dependencies=[PUBLIC]`: no login is needed; the rate limit of the address applies."""


@declares("public")
async def _prober() -> None:
    """Not counted: health checks always come from the same address and must not use up its rate limit."""


PROBE = Depends(_prober)
"""For `dependencies=[PROBE]`: no login is needed, and there is no rate limit. The route must be cheap."""


def undeclared_routes(routes: Sequence[BaseRoute]) -> list[str]:
    """The API routes ("GET /path") that declare no permission."""
    return [name for name, permissions in declared_permissions(routes) if not permissions]


def declared_permissions(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, list[str]]]:
    """Each API route as "METHOD /path" with the permissions that its dependencies declare."""
    for context in iter_route_contexts(routes):
        if isinstance(context.original_route, APIRoute):
            methods = ",".join(sorted(context.methods or ()))
            yield f"{methods} {context.path}", list(_permissions(context.dependant))


def _permissions(dependant: Dependant) -> Iterator[str]:
    permission = getattr(dependant.call, _MARK, None)
    if permission is not None:
        yield permission
    for below in dependant.dependencies:
        yield from _permissions(below)
