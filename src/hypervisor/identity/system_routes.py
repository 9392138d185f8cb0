"""Routes of /system: information about this installation."""

from __future__ import annotations

from fastapi import APIRouter

from hypervisor import __version__
from hypervisor.api.json_body import JsonRoute
from hypervisor.api.problems import documented
from hypervisor.api.schema import ResponseModel
from hypervisor.api.services import ServicesDep
from hypervisor.identity.principal import CurrentUser

router = APIRouter(prefix="/system", tags=["Service"], route_class=JsonRoute)


class SystemInfoResponse(ResponseModel):
    """`runtimes` has a description of each runtime, or the reason why it is not available."""

    version: str
    database: str
    install_id: str
    default_runtime: str
    runtimes: dict[str, str]


@router.get("/info", responses=documented(401, 429))
async def get_system_info(_user: CurrentUser, services: ServicesDep) -> SystemInfoResponse:
    """Return the version, the database and the available runtimes."""
    return SystemInfoResponse(
        version=__version__,
        database="sqlite" if services.database.is_sqlite else "postgresql",
        install_id=services.install_id,
        default_runtime=services.settings.default_runtime,
        runtimes=await services.runtimes.describe_all(),
    )
