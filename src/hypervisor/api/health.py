"""Whether the server lives, whether it can work, and where to go from its root."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from hypervisor import __version__
from hypervisor.api.permissions import PROBE, PUBLIC
from hypervisor.api.problems import documented
from hypervisor.api.services import ServicesDep
from hypervisor.errors import Unavailable

router = APIRouter(tags=["Service"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class CheckResponse(BaseModel):
    """What was looked at and found; `detail` also says what to do when it is not ok."""

    name: str
    ok: bool
    detail: str


class Ready(Health):
    checks: list[CheckResponse]


class Landing(BaseModel):
    name: str = "MLOps Hypervisor"
    version: str = __version__
    api: str = "/api/v1"
    docs: str = "/docs"
    reference: str = "/redoc"
    openapi: str = "/openapi.json"
    admin: str = "/admin/"


@router.get("/", dependencies=[PUBLIC])
async def landing() -> Landing:
    """What this is and where its documentation lies."""
    return Landing()


@router.get("/healthz", dependencies=[PROBE])
async def healthz() -> Health:
    """The process lives. Stays true while the database is away: a restart would not bring it back."""
    return Health()


@router.get("/readyz", dependencies=[PROBE], responses=documented(503))
async def readyz(services: ServicesDep) -> Ready:
    """The server can work: it is not going down, the database answers with a schema that it knows, and the
    loops of this process take their turns. Else the answer is 503, with the same `checks`.
    """
    found = await services.readiness.check()
    checks = [CheckResponse(name=each.name, ok=each.ok, detail=each.detail) for each in found]
    for each in found:
        if not each.ok:
            shown = [check.model_dump() for check in checks]
            raise Unavailable(each.code, each.detail, extra={"checks": shown})
    return Ready(checks=checks)
