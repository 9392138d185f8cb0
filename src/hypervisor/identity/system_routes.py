"""What this installation is, for people who are logged in."""

from __future__ import annotations

from fastapi import APIRouter

from hypervisor import __version__
from hypervisor.api.problems import documented
from hypervisor.api.schema import ResponseModel
from hypervisor.api.services import ServicesDep
from hypervisor.identity.principal import CurrentUser

router = APIRouter(prefix="/system", tags=["Service"])


class SystemInfo(ResponseModel):
    """`runtimes` says for each runtime what was found, or why it cannot be used now."""

    version: str
    database: str
    install_id: str
    default_runtime: str
    runtimes: dict[str, str]


@router.get("/info", responses=documented(401, 429))
async def get_system_info(_user: CurrentUser, services: ServicesDep) -> SystemInfo:
    """Version, database and the runtimes that were found."""
    return SystemInfo(
        version=__version__,
        database="sqlite" if services.database.is_sqlite else "postgresql",
        install_id=services.install_id,
        default_runtime=services.settings.default_runtime,
        runtimes=await services.runtimes.describe_all(),
    )
