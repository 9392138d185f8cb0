"""Whether the server lives, whether it can work, and where to go from its root."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hypervisor import __version__
from hypervisor.api.container import ContainerDep
from hypervisor.api.permissions import PUBLIC
from hypervisor.api.problems import documented
from hypervisor.errors import Unavailable

READY_WITHIN_SECONDS = 2.0

router = APIRouter(tags=["Service"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


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


@router.get("/healthz", dependencies=[PUBLIC])
async def healthz() -> Health:
    """The process lives. Stays true while the database is away: a restart would not bring it back."""
    return Health()


@router.get("/readyz", dependencies=[PUBLIC], responses=documented(503))
async def readyz(container: ContainerDep) -> Health:
    """The server can work: it is not going down, and the database answers."""
    if container.stopping.is_set():
        raise Unavailable("stopping", "The server is going down.")
    try:
        async with asyncio.timeout(READY_WITHIN_SECONDS), container.database.read() as session:
            await session.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError, TimeoutError):
        raise Unavailable("database_unavailable", "The database does not answer.") from None
    return Health()
