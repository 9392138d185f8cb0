"""Targets of requests: the organization and the cluster of each, locked until the end of the transaction.

Many submissions are resolved together: rows are read once for all, then each submission is checked by itself.
Rows are locked in the order organizations, clusters, each by id. Clusters that are named and owned by the
callers' organizations come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.clusters import repository as clusters
from hypervisor.clusters.policy import no_such_cluster
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.deployments.spec.dependency_refs import BatchItemError
from hypervisor.errors import Conflict, HypervisorError, Invalid
from hypervisor.identity.principal import Principal
from hypervisor.kernel.roles import Role
from hypervisor.organizations.access import (
    OrganizationAccess,
    access_from_row,
    check_role,
    not_found,
    only_organization,
)
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Cluster, Organization


@dataclass(slots=True)
class PendingRequest:
    """The requests of one submission during the checks, which accept all or none."""

    principal: Principal
    requests: Sequence[DeploymentCreate]
    refusal: HypervisorError | BatchItemError | None = None
    organization_id: int = 0
    clusters: Sequence[Cluster] = ()
    """The cluster of each request."""

    @contextmanager
    def capture_refusal(self) -> Iterator[None]:
        """Store a refusal that is raised inside as the refusal of this submission."""
        try:
            yield
        except (HypervisorError, BatchItemError) as refusal:
            self.refusal = refusal


@dataclass(frozen=True, slots=True)
class _Held:
    """Locked rows by id, and the owner of each cluster."""

    organizations: dict[int, Organization]
    clusters: dict[int, Cluster]
    owners: Mapping[int, int]


def accepted(cases: Iterable[PendingRequest]) -> list[PendingRequest]:
    """The cases without a refusal."""
    return [case for case in cases if case.refusal is None]


async def resolve_targets(session: WriteSession, cases: Sequence[PendingRequest]) -> None:
    """Find and lock the organization and the clusters of each case against deletion."""
    held = await _lock_own(session, cases)
    for case in cases:
        with case.capture_refusal():
            case.organization_id = await _find_organization(session, case, held.owners)
    accesses = await _lock_organizations(session, cases, held)
    await _lock_clusters(session, cases, accesses, held)


async def _lock_own(session: WriteSession, cases: Sequence[PendingRequest]) -> _Held:
    """Lock the named clusters that the callers' organizations own: nearly every case, in one query."""
    named = {id_ for case in cases for request in case.requests if (id_ := request.cluster_id) is not None}
    memberships = {id_ for case in cases for id_ in case.principal.memberships}
    organizations, held = await clusters.lock_own_shared(session, named, memberships)
    owners = {id_: cluster.organization_id for id_, cluster in held.items()}
    owners |= await clusters.owners_of(session, named - held.keys())
    return _Held(organizations, held, owners)


async def _find_organization(session: AsyncSession, case: PendingRequest, owners: Mapping[int, int]) -> int:
    """The organization of all requests: named, or that of their clusters, or the caller's only one."""
    candidates: set[int | None] = set()
    for index, request in enumerate(case.requests):
        usable_by = await _organizations_for(session, case.principal, request.cluster_id, owners)
        if request.cluster_id is not None and not usable_by:
            raise BatchItemError(index, no_such_cluster(request.cluster_id))
        only = usable_by[0] if len(usable_by) == 1 else None
        candidates.add(only if request.organization_id is None else request.organization_id)
    if len(candidates) > 1:
        candidates.discard(None)
    if len(candidates) > 1:
        raise Invalid(
            "several_organizations",
            "The deployments of a batch must belong to one organization. Send one batch for each.",
        )
    found = candidates.pop() or only_organization(case.principal)
    check_role(case.principal, found, Role.DEVELOPER, hidden=not_found("organization", found))
    return found


async def _organizations_for(
    session: AsyncSession, principal: Principal, cluster_id: int | None, owners: Mapping[int, int]
) -> Sequence[int]:
    """The caller's organizations that may use the cluster: its owner, else those with a share, else none."""
    owner = owners.get(cluster_id or 0)
    if cluster_id is None or owner is None:
        return ()
    if principal.role_in(owner) is not None:
        return (owner,)
    return await clusters.guests_of(session, cluster_id, principal.memberships)


async def _lock_organizations(
    session: WriteSession, cases: Sequence[PendingRequest], held: _Held
) -> dict[int, OrganizationAccess]:
    """The access of each case to its organization, by index."""
    missing = {case.organization_id for case in accepted(cases)} - held.organizations.keys()
    held.organizations.update(await clusters.lock_organizations_shared(session, missing))
    accesses: dict[int, OrganizationAccess] = {}
    for index, case in enumerate(cases):
        if case.refusal is None:
            with case.capture_refusal():
                organization = held.organizations.get(case.organization_id)
                accesses[index] = access_from_row(
                    case.principal, case.organization_id, organization, Role.DEVELOPER
                )
    return accesses


async def _lock_clusters(
    session: WriteSession,
    cases: Sequence[PendingRequest],
    accesses: Mapping[int, OrganizationAccess],
    held: _Held,
) -> None:
    chosen: dict[int, Sequence[int]] = {}
    for index, access in accesses.items():
        with cases[index].capture_refusal():
            chosen[index] = await _cluster_ids(session, cases[index].requests, access)
    missing = {id_ for ids in chosen.values() for id_ in ids} - held.clusters.keys()
    held.clusters.update(await clusters.lock_clusters_shared(session, missing))
    for index, ids in chosen.items():
        with cases[index].capture_refusal():
            cases[index].clusters = await _usable(
                session, ids, held.clusters, accesses[index].organization_id
            )


async def _cluster_ids(
    session: AsyncSession, requests: Sequence[DeploymentCreate], access: OrganizationAccess
) -> Sequence[int]:
    named = [request.cluster_id for request in requests]
    only = await _only_cluster(session, access) if None in named else 0
    return [id_ or only for id_ in named]


async def _usable(
    session: AsyncSession, ids: Sequence[int], held: Mapping[int, Cluster], organization_id: int
) -> list[Cluster]:
    """These clusters. Raises BatchItemError for one that is being deleted or that may not be used."""
    guest_of = {id_ for id_ in set(ids) & held.keys() if held[id_].organization_id != organization_id}
    hidden = {id_ for id_ in guest_of if not await clusters.guests_of(session, id_, [organization_id])}
    for index, id_ in enumerate(ids):
        if id_ not in held or id_ in hidden:
            raise BatchItemError(index, no_such_cluster(id_))
        if held[id_].deleting_at is not None:
            deleting = Conflict("cluster_deleting", f"The cluster {held[id_].name!r} is being deleted.")
            raise BatchItemError(index, deleting)
    return [held[id_] for id_ in ids]


async def _only_cluster(session: AsyncSession, access: OrganizationAccess) -> int:
    own = await clusters.list_clusters(session, [access.organization_id], after=0, limit=21)
    usable = [cluster for cluster in own if cluster.deleting_at is None]
    if len(usable) == 1:
        return usable[0].id
    if not usable:
        raise Invalid("no_cluster", f"The organization {access.name!r} has no cluster yet. Create one first.")
    named = ", ".join(f"{cluster.id} ({cluster.name})" for cluster in usable[:20])
    raise Invalid("cluster_id_required", f"Give cluster_id: the organization has several clusters: {named}.")
