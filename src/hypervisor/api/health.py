"""Routes for liveness, readiness and the root of the server."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from hypervisor import __version__
from hypervisor.api.path_aliases import API_PREFIX
from hypervisor.api.permissions import PROBE, PUBLIC
from hypervisor.api.problems import documented
from hypervisor.api.services import ServicesDep
from hypervisor.errors import Unavailable

RETRY_SECONDS = 1

router = APIRouter(tags=["Service"])


class Health(BaseModel):
    """The server is alive."""

    status: Literal["ok"] = "ok"


class CheckResponse(BaseModel):
    """One check. If the check is not ok, `detail` includes advice."""

    name: str
    ok: bool
    detail: str


class Ready(Health):
    """The server is ready. `checks` has one entry for each check."""

    checks: list[CheckResponse]


class Landing(BaseModel):
    """The product, its version and the paths of its entry points."""

    name: str = "MLOps Hypervisor"
    version: str = __version__
    api: str
    docs: str
    reference: str
    openapi: str
    admin: str


@router.get("/", summary="Entry points", dependencies=[PUBLIC])
async def landing(services: ServicesDep) -> Landing:
    """Show the version and the paths of the API, its documentation and the admin pages."""
    root = services.settings.link_prefix
    return Landing(
        api=f"{root}{API_PREFIX}",
        docs=f"{root}/docs",
        reference=f"{root}/redoc",
        openapi=f"{root}/openapi.json",
        admin=f"{root}/admin/",
    )


@router.get("/healthz", summary="Liveness", dependencies=[PROBE])
async def healthz() -> Health:
    """Report that the process is alive. The database does not matter: a restart would not repair it."""
    return Health()


@router.get("/readyz", summary="Readiness", dependencies=[PROBE], responses=documented(503))
async def readyz(services: ServicesDep) -> Ready:
    """Report whether the server can serve requests.

    It is ready if it is not shutting down, the database answers with a current schema and can be written to,
    and the control loops of this process make progress. Otherwise the status is 503, with the same `checks`.
    """
    results = await services.readiness.check()
    checks = [CheckResponse(name=check.name, ok=check.ok, detail=check.detail) for check in results]
    for check in results:
        if not check.ok:
            shown = [response.model_dump() for response in checks]
            raise Unavailable(
                check.code, check.detail, extra={"checks": shown}, headers={"Retry-After": str(RETRY_SECONDS)}
            )
    return Ready(checks=checks)
