"""The endpoint that workloads call: a report about their own progress."""

from __future__ import annotations

from fastapi import APIRouter

from hypervisor.api.problems import documented
from hypervisor.api.services import AppServices, ServicesDep
from hypervisor.deployments.history import checkpoints
from hypervisor.deployments.history.checkpoint_auth import CheckpointReporter, ReportingAttempt
from hypervisor.deployments.schemas.requests import CheckpointReport
from hypervisor.deployments.schemas.responses import CheckpointResponse
from hypervisor.store.database import WriteSession

router = APIRouter(prefix="/deployments", tags=["Deployments"])


@router.post("/{deployment_id}/checkpoint", responses=documented(401, 403, 404, 409, 422, 429))
async def report_checkpoint(
    body: CheckpointReport, reporter: CheckpointReporter, services: ServicesDep
) -> CheckpointResponse:
    """Say that the work so far is safe, with HV_CHECKPOINT_TOKEN of the workload's own environment.

    Kept at most once a second. After a preemption the next attempt is told the last one, and lost
    work is counted from it.
    """

    async def work(session: WriteSession) -> CheckpointResponse:
        attempt = await checkpoints.keep(session, reporter, body, services.clock.now())
        return CheckpointResponse(
            deployment_id=attempt.deployment_id,
            attempt=attempt.number,
            checkpoint_at=attempt.checkpoint_at or services.clock.now(),
            checkpoint=attempt.checkpoint or {},
        )

    answer = await services.database.transact(work)
    answer.token = _next_token(services, reporter)
    return answer


def _next_token(services: AppServices, reporter: ReportingAttempt) -> str | None:
    own, now = reporter.own, services.clock.now()
    lifetime = own.renewal_lifetime(now) if own else None
    return services.attempt_tokens.issue(own.claims, lifetime, now) if own and lifetime else None
