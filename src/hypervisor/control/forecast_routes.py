"""Endpoints that ask the scheduler without telling it anything: a dry run, the queue, a fresh reason."""

from __future__ import annotations

from fastapi import APIRouter

from hypervisor.api.container import ContainerDep
from hypervisor.api.pages import DEFAULT_PAGE, Cursor, Limit, Page
from hypervisor.api.problems import documented
from hypervisor.clusters.policy import ClusterReader
from hypervisor.control.answers import ForecastAnswer, QueuedAnswer
from hypervisor.control.forecasts import forecast
from hypervisor.control.queues import fresh_look, queue_page
from hypervisor.deployments import repository, submission
from hypervisor.deployments.answers import Explanation
from hypervisor.deployments.explain import explain
from hypervisor.deployments.policy import DeploymentReader, DeploymentSubmitter
from hypervisor.deployments.references import RefusedMember
from hypervisor.deployments.schemas import DeploymentCreate
from hypervisor.lifecycle.states import State

router = APIRouter()

READS = documented(401, 404, 422, 429)


@router.post("/deployments/plan", tags=["Deployments"], responses=documented(401, 403, 404, 409, 422, 429))
async def plan_deployment(
    body: DeploymentCreate, user: DeploymentSubmitter, container: ContainerDep
) -> ForecastAnswer:
    """What would become of this deployment now; nothing is written. The body is that of a submit."""
    try:
        place = await container.database.transact(lambda session: submission.find_place(session, user, body))
    except RefusedMember as refused:
        raise refused.error from None
    return await forecast(container.database, user, body, place, container.clock.now())


@router.get("/deployments/{deployment_id}/explain", tags=["Deployments"], responses=READS)
async def explain_deployment(access: DeploymentReader, container: ContainerDep) -> Explanation:
    """Why it is as it is: the reason as of now, who is before it, what it depends on, its preemptions."""
    async with container.database.read() as session:
        deployment = await repository.find(session, access.deployment_id)
    if deployment is None:
        raise access.hidden
    fresh = None
    if deployment.state == State.QUEUED.value:
        fresh = await fresh_look(container.database, deployment, container.clock.now())
    async with container.database.read() as session:
        return await explain(
            session, deployment, fresh.reason if fresh else None, fresh.standing if fresh else None
        )


@router.get("/clusters/{cluster_id}/queue", tags=["Clusters"], responses=READS)
async def get_queue(
    access: ClusterReader, container: ContainerDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[QueuedAnswer]:
    """Who waits for the cluster, in the scheduler's order, with every component of each place."""
    found = await queue_page(
        container.database,
        access.principal,
        access.cluster_id,
        container.clock.now(),
        limit=limit,
        cursor=cursor,
    )
    if found is None:
        raise access.hidden
    return found
