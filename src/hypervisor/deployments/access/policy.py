"""Permissions on deployments: every member reads, developers and admins write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path
from structlog.contextvars import bind_contextvars

from hypervisor.api.permissions import declares
from hypervisor.api.schema import MAX_BIG_ID
from hypervisor.api.services import ServicesDep
from hypervisor.deployments.access import repository
from hypervisor.errors import NotFound
from hypervisor.identity.principal import Authentication, CurrentUser, Principal
from hypervisor.kernel.roles import Role
from hypervisor.organizations.access import check_access, not_found
from hypervisor.store.tables import Deployment

DeploymentPathId = Annotated[int, Path(ge=1, le=MAX_BIG_ID, description="The deployment's id.")]


@dataclass(frozen=True, slots=True)
class DeploymentAccess:
    """One deployment and the caller, whose role in its organization is sufficient.

    `deployment` is the row that the check read, detached from its session with every column loaded. A
    response may show it. A change must not rely on it: `repository.lock` reads the row again, because the
    state may have changed before the lock was acquired.
    """

    deployment: Deployment
    principal: Principal

    @property
    def deployment_id(self) -> int:
        return self.deployment.id

    @property
    def organization_id(self) -> int:
        return self.deployment.organization_id

    @property
    def hidden(self) -> NotFound:
        """The error when the deployment was deleted after the check."""
        return no_such_deployment(self.deployment_id)


def no_such_deployment(deployment_id: int) -> NotFound:
    return not_found("deployment", deployment_id)


lists_deployments = declares("member")(Authentication())
"""Lists contain only deployments of the caller's organizations."""
submits_deployments = declares("developer of the named organization")(Authentication())
"""The body names organization or cluster; the service checks the role there."""


@declares("viewer of the deployment's organization")
async def reads_deployment(
    deployment_id: DeploymentPathId, principal: CurrentUser, services: ServicesDep
) -> DeploymentAccess:
    return await _access(deployment_id, principal, services, Role.VIEWER)


@declares("developer of the deployment's organization")
async def changes_deployment(
    deployment_id: DeploymentPathId, principal: CurrentUser, services: ServicesDep
) -> DeploymentAccess:
    return await _access(deployment_id, principal, services, Role.DEVELOPER)


DeploymentLister = Annotated[Principal, Depends(lists_deployments)]
DeploymentSubmitter = Annotated[Principal, Depends(submits_deployments)]
DeploymentReader = Annotated[DeploymentAccess, Depends(reads_deployment)]
DeploymentChanger = Annotated[DeploymentAccess, Depends(changes_deployment)]


async def _access(
    deployment_id: int, principal: Principal, services: ServicesDep, minimum: Role
) -> DeploymentAccess:
    async with services.database.read() as session:
        deployment, hidden = await repository.find(session, deployment_id), no_such_deployment(deployment_id)
        if deployment is None:
            raise hidden
        await check_access(session, principal, deployment.organization_id, minimum, hidden=hidden)
    bind_contextvars(deployment_id=deployment_id)
    return DeploymentAccess(deployment, principal)
