"""The endpoint for workloads: a report of their progress."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.problems import documented
from hypervisor.api.services import ServicesDep
from hypervisor.deployments.history import checkpoints
from hypervisor.deployments.history.checkpoint_auth import CheckpointReporter, ReportingAttempt
from hypervisor.deployments.schemas.requests import CheckpointReport
from hypervisor.deployments.schemas.responses import CheckpointResponse
from hypervisor.infra.security.tokens import AttemptTokens
from hypervisor.store.database import WriteSession

router = APIRouter(prefix="/deployments", tags=["Deployments"], route_class=JsonRoute)


@router.post("/{deployment_id}/checkpoint", responses=documented(401, 403, 404, 409, 422, 429))
async def report_checkpoint(
    body: CheckpointReport, reporter: CheckpointReporter, services: ServicesDep
) -> CheckpointResponse:
    """Report that the work so far is saved, with HV_CHECKPOINT_TOKEN from the workload's environment.

    Stored at most once a second. After a preemption, the next attempt receives the last checkpoint, and lost
    work counts from it.
    """

    async def work(session: WriteSession) -> CheckpointResponse:
        attempt = await checkpoints.save_checkpoint(session, reporter, body, services.clock.now())
        return CheckpointResponse(
            deployment_id=attempt.deployment_id,
            attempt=attempt.number,
            checkpoint_at=attempt.checkpoint_at or services.clock.now(),
            checkpoint=attempt.checkpoint or {},
        )

    answer = await services.database.transact(work)
    answer.token = _next_token(services.attempt_tokens, reporter, services.clock.now())
    return answer


def _next_token(tokens: AttemptTokens, reporter: ReportingAttempt, now: datetime) -> str | None:
    own = reporter.token
    lifetime = own.renewal_lifetime(now) if own else None
    return tokens.issue(own.claims, lifetime, now) if own and lifetime else None
