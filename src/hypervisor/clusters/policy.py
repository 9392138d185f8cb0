"""Permissions on clusters: every member reads, admins change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path

from hypervisor.api.permissions import declares
from hypervisor.api.schema import MAX_ID
from hypervisor.api.services import ServicesDep
from hypervisor.clusters import repository
from hypervisor.errors import NotFound
from hypervisor.identity.principal import CurrentUser, Principal
from hypervisor.kernel.roles import Role
from hypervisor.organizations.access import check_access, check_role, not_found

ClusterId = Annotated[int, Path(ge=1, le=MAX_ID, description="The cluster's id.")]
NodeId = Annotated[int, Path(ge=1, le=MAX_ID, description="The node's id.")]


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """A caller with a sufficient role on one cluster; `organization_id` is the owner of the cluster."""

    cluster_id: int
    organization_id: int
    principal: Principal
    is_guest: bool = False
    """Whether the caller sees the cluster only through a share."""

    @property
    def hidden(self) -> NotFound:
        """The error when the cluster was deleted in the meantime."""
        return no_such_cluster(self.cluster_id)


def no_such_cluster(cluster_id: int) -> NotFound:
    return not_found("cluster", cluster_id)


def visible_organizations(principal: Principal, organization_id: int | None) -> frozenset[int] | None:
    """The organizations that a list is limited to; None for a superuser without a filter.

    Raises NotFound for an organization without the caller.
    """
    if organization_id is not None:
        check_role(principal, organization_id, Role.VIEWER, hidden=not_found("organization", organization_id))
        return frozenset((organization_id,))
    return None if principal.is_superuser else frozenset(principal.memberships)


@declares("member")
async def lists_clusters(principal: CurrentUser) -> Principal:
    """Lists contain only clusters of the caller's organizations."""
    return principal


@declares("admin of the named organization")
async def creates_clusters(principal: CurrentUser) -> Principal:
    """The organization is in the body; the service checks the role."""
    return principal


@declares("viewer of the cluster's organization, or of one that it is shared with")
async def reads_cluster(
    cluster_id: ClusterId, principal: CurrentUser, services: ServicesDep
) -> ClusterAccess:
    return await _access(cluster_id, principal, services, Role.VIEWER)


@declares("admin of the cluster's organization")
async def changes_cluster(
    cluster_id: ClusterId, principal: CurrentUser, services: ServicesDep
) -> ClusterAccess:
    return await _access(cluster_id, principal, services, Role.ADMIN)


ClusterLister = Annotated[Principal, Depends(lists_clusters)]
ClusterCreator = Annotated[Principal, Depends(creates_clusters)]
ClusterReader = Annotated[ClusterAccess, Depends(reads_cluster)]
ClusterChanger = Annotated[ClusterAccess, Depends(changes_cluster)]


async def _access(
    cluster_id: int, principal: Principal, services: ServicesDep, minimum: Role
) -> ClusterAccess:
    async with services.database.read() as session:
        cluster = await repository.find_cluster(session, cluster_id)
        if cluster is None:
            raise no_such_cluster(cluster_id)
        organization_id = cluster.organization_id
        if minimum is Role.VIEWER and principal.role_in(organization_id) is None:
            if not await repository.guests_of(session, cluster_id, principal.memberships):
                raise no_such_cluster(cluster_id)
            return ClusterAccess(cluster_id, organization_id, principal, is_guest=True)
        hidden = no_such_cluster(cluster_id)
        await check_access(session, principal, organization_id, minimum, hidden=hidden)
    return ClusterAccess(cluster_id, organization_id, principal)
