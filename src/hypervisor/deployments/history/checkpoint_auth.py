"""Permission to report a checkpoint: the attempt with its own token, or a developer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from hypervisor.api.permissions import declares
from hypervisor.api.services import ServicesDep
from hypervisor.deployments.access.policy import DeploymentPathId, changes_deployment, no_such_deployment
from hypervisor.events.log import WORKLOAD
from hypervisor.identity.principal import BearerToken, authenticated
from hypervisor.infra.security.tokens import AttemptToken, AttemptTokens, InvalidToken


@dataclass(frozen=True, slots=True)
class ReportingAttempt:
    """The author of a report. `token` is that of the attempt; None: a developer reports for the live one."""

    deployment_id: int
    actor: str
    token: AttemptToken | None = None

    @property
    def attempt(self) -> int | None:
        """The number of the reported attempt; None: the live one."""
        return self.token.claims.attempt if self.token else None


@declares("the attempt itself, or developer of the deployment's organization")
async def reports_checkpoint(
    deployment_id: DeploymentPathId, request: Request, services: ServicesDep, token: BearerToken
) -> ReportingAttempt:
    """The caller. The write of the report checks that the attempt is still live."""
    own = _own_token(services.attempt_tokens, token, services.clock.now())
    if own is None:
        principal = await authenticated(request)
        access = await changes_deployment(deployment_id, principal, services)
        return ReportingAttempt(access.deployment_id, principal.actor)
    claims = own.claims
    if services.request_limit is not None:
        key = f"attempt:{claims.deployment_id}-{claims.attempt}"
        await services.limiter.check(services.request_limit, "requests", key)
    if claims.deployment_id != deployment_id:
        raise no_such_deployment(deployment_id)
    return ReportingAttempt(deployment_id, WORKLOAD, own)


CheckpointReporter = Annotated[ReportingAttempt, Depends(reports_checkpoint)]


def _own_token(tokens: AttemptTokens, token: str | None, now: datetime) -> AttemptToken | None:
    try:
        return tokens.read(token or "", now)
    except InvalidToken:
        return None
