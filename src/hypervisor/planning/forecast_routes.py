"""Endpoints that plan without writing: the dry run, the queue, the explanation of one deployment."""

from __future__ import annotations

from fastapi import APIRouter

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.pagination import DEFAULT_PAGE, Cursor, Limit, Page
from hypervisor.api.problems import documented
from hypervisor.api.services import ServicesDep
from hypervisor.clusters.policy import ClusterReader
from hypervisor.deployments.access.policy import DeploymentReader, DeploymentSubmitter
from hypervisor.deployments.history.explain import explain
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.deployments.schemas.responses import Explanation
from hypervisor.deployments.spec import submit
from hypervisor.deployments.spec.dependency_refs import BatchItemError
from hypervisor.lifecycle.states import State
from hypervisor.planning.forecast import forecast
from hypervisor.planning.queue_view import plan_now, queue_page
from hypervisor.planning.responses import ForecastResponse, QueuedResponse

router = APIRouter(route_class=JsonRoute)

READS = documented(401, 404, 422, 429)


@router.post("/deployments/plan", tags=["Deployments"], responses=documented(401, 403, 404, 409, 422, 429))
async def plan_deployment(
    body: DeploymentCreate, user: DeploymentSubmitter, services: ServicesDep
) -> ForecastResponse:
    """What would happen to this deployment now. Nothing is written; the body is that of a submit."""
    try:
        target = await services.database.transact(lambda session: submit.find_target(session, user, body))
    except BatchItemError as refused:
        raise refused.error from None
    return await forecast(services.database, user, body, target, services.clock.now())


@router.get("/deployments/{deployment_id}/explain", tags=["Deployments"], responses=READS)
async def explain_deployment(access: DeploymentReader, services: ServicesDep) -> Explanation:
    """The reason of its state as of now, the deployments ahead of it, its dependencies and preemptions."""
    deployment, planned_now = access.deployment, None
    if deployment.state == State.QUEUED.value:
        planned_now = await plan_now(services.database, deployment, services.clock.now())
    async with services.database.read() as session:
        return await explain(
            session,
            deployment,
            planned_now.reason if planned_now else None,
            planned_now.planned if planned_now else None,
        )


@router.get("/clusters/{cluster_id}/queue", tags=["Clusters"], responses=READS)
async def get_queue(
    access: ClusterReader, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[QueuedResponse]:
    """The queue of the cluster in the scheduler's order, with the components of each position."""
    found = await queue_page(
        services.database,
        access.principal,
        access.cluster_id,
        services.clock.now(),
        limit=limit,
        cursor=cursor,
    )
    if found is None:
        raise access.hidden
    return found
