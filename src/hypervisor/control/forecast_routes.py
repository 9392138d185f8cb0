"""Endpoints that ask the scheduler without telling it anything: a dry run, the queue, a fresh reason."""

from __future__ import annotations

from fastapi import APIRouter

from hypervisor.api.container import ContainerDep
from hypervisor.api.problems import documented
from hypervisor.control.answers import ForecastAnswer
from hypervisor.control.forecasts import forecast
from hypervisor.deployments import submission
from hypervisor.deployments.policy import DeploymentSubmitter
from hypervisor.deployments.references import RefusedMember
from hypervisor.deployments.schemas import DeploymentCreate

router = APIRouter(tags=["Forecasts"])


@router.post("/deployments/plan", responses=documented(401, 403, 404, 409, 422, 429))
async def plan_deployment(
    body: DeploymentCreate, user: DeploymentSubmitter, container: ContainerDep
) -> ForecastAnswer:
    """What would become of this deployment now; nothing is written. The body is that of a submit."""
    try:
        place = await container.database.transact(lambda session: submission.find_place(session, user, body))
    except RefusedMember as refused:
        raise refused.error from None
    return await forecast(container.database, user, body, place, container.clock.now())
