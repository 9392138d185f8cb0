"""The endpoint that workloads call: a report about their own progress."""

from __future__ import annotations

from fastapi import APIRouter

from hypervisor.api.problems import documented
from hypervisor.api.services import Container, ContainerDep
from hypervisor.deployments.history import checkpoints
from hypervisor.deployments.history.checkpoint_auth import CheckpointReporter, Reporter
from hypervisor.deployments.schemas.requests import CheckpointReport
from hypervisor.deployments.schemas.responses import CheckpointAnswer
from hypervisor.store.database import WriteSession

router = APIRouter(prefix="/deployments", tags=["Deployments"])


@router.post("/{deployment_id}/checkpoint", responses=documented(401, 403, 404, 409, 422, 429))
async def report_checkpoint(
    body: CheckpointReport, reporter: CheckpointReporter, container: ContainerDep
) -> CheckpointAnswer:
    """Say that the work so far is safe, with HV_CHECKPOINT_TOKEN of the workload's own environment.

    Kept at most once a second. After a preemption the next attempt is told the last one, and lost
    work is counted from it.
    """

    async def work(session: WriteSession) -> CheckpointAnswer:
        attempt = await checkpoints.keep(session, reporter, body, container.clock.now())
        return CheckpointAnswer(
            deployment_id=attempt.deployment_id,
            attempt=attempt.number,
            checkpoint_at=attempt.checkpoint_at or container.clock.now(),
            checkpoint=attempt.checkpoint or {},
        )

    answer = await container.database.transact(work)
    answer.token = _next_token(container, reporter)
    return answer


def _next_token(container: Container, reporter: Reporter) -> str | None:
    own, now = reporter.own, container.clock.now()
    lifetime = own.lifetime_if_ageing(now) if own else None
    return container.attempt_tokens.issue(own.claims, lifetime, now) if own and lifetime else None
