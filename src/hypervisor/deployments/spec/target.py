"""Where requests go: the organization and the clusters of each, held until the end of the transaction.

Many submissions are placed together: what they need is read once for all, and every one of them is then
judged for itself. Rows are held in the order organizations, clusters, each by id; those of clusters that are
named and the callers' own come before all others.
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
    """Requests that are placed all or none, on their way through the checks until one refuses them."""

    principal: Principal
    requests: Sequence[DeploymentCreate]
    refusal: HypervisorError | BatchItemError | None = None
    organization_id: int = 0
    clusters: Sequence[Cluster] = ()
    """One for each request."""

    @contextmanager
    def capture_refusal(self) -> Iterator[None]:
        """A refusal within is that of this case and of no other."""
        try:
            yield
        except (HypervisorError, BatchItemError) as refusal:
            self.refusal = refusal


@dataclass(frozen=True, slots=True)
class _Held:
    """Rows that stay as they are until the end of the transaction, by id; and who owns which cluster."""

    organizations: dict[int, Organization]
    clusters: dict[int, Cluster]
    owners: Mapping[int, int]


def accepted(cases: Iterable[PendingRequest]) -> list[PendingRequest]:
    """Those that nothing has refused so far."""
    return [case for case in cases if case.refusal is None]


async def resolve_targets(session: WriteSession, cases: Sequence[PendingRequest]) -> None:
    """Find and hold the organization and the clusters of each case, so that none is deleted meanwhile."""
    held = await _hold_own(session, cases)
    for case in cases:
        with case.capture_refusal():
            case.organization_id = await _find_organization(session, case, held.owners)
    accesses = await _hold_organizations(session, cases, held)
    await _hold_clusters(session, cases, accesses, held)


async def _hold_own(session: WriteSession, cases: Sequence[PendingRequest]) -> _Held:
    """What nearly every case comes down to, in one query: clusters that the callers' organizations own."""
    named = {id_ for case in cases for request in case.requests if (id_ := request.cluster_id) is not None}
    members = {id_ for case in cases for id_ in case.principal.memberships}
    organizations, held = await clusters.hold_own(session, named, members)
    owners = {id_: cluster.organization_id for id_, cluster in held.items()}
    owners |= await clusters.owners_of(session, named - held.keys())
    return _Held(organizations, held, owners)


async def _find_organization(session: AsyncSession, case: PendingRequest, owners: Mapping[int, int]) -> int:
    """The one organization of all requests: named, or told by their clusters, or the caller's only one."""
    wanted: set[int | None] = set()
    for index, request in enumerate(case.requests):
        told = await _organizations_for(session, case.principal, request.cluster_id, owners)
        if request.cluster_id is not None and not told:
            raise BatchItemError(index, no_such_cluster(request.cluster_id))
        only = told[0] if len(told) == 1 else None
        wanted.add(only if request.organization_id is None else request.organization_id)
    if len(wanted) > 1:
        wanted.discard(None)
    if len(wanted) > 1:
        raise Invalid("several_organizations", "All deployments of a batch belong to one organization.")
    found = wanted.pop() or only_organization(case.principal)
    check_role(case.principal, found, Role.DEVELOPER, hidden=not_found("organization", found))
    return found


async def _organizations_for(
    session: AsyncSession, principal: Principal, cluster_id: int | None, owners: Mapping[int, int]
) -> Sequence[int]:
    """For which of the caller's organizations the cluster may be used: its owner, else whom it is shared
    with. Empty where there is none.
    """
    owner = owners.get(cluster_id or 0)
    if cluster_id is None or owner is None:
        return ()
    if principal.role_in(owner) is not None:
        return (owner,)
    return await clusters.guests_of(session, cluster_id, principal.memberships)


async def _hold_organizations(
    session: WriteSession, cases: Sequence[PendingRequest], held: _Held
) -> dict[int, OrganizationAccess]:
    """What each case may do in its organization, by its index."""
    wanted = {case.organization_id for case in accepted(cases)}
    missing = wanted - held.organizations.keys()
    held.organizations.update(await clusters.hold_organizations(session, missing))
    accesses: dict[int, OrganizationAccess] = {}
    for index, case in enumerate(cases):
        if case.refusal is None:
            with case.capture_refusal():
                organization = held.organizations.get(case.organization_id)
                accesses[index] = access_from_row(
                    case.principal, case.organization_id, organization, Role.DEVELOPER
                )
    return accesses


async def _hold_clusters(
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
    held.clusters.update(await clusters.hold_clusters(session, missing))
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
    """These clusters. Raises RefusedMember for one that the organization may not use or that is to go."""
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
        raise Invalid("no_cluster", f"The organization {access.name!r} has no cluster yet: add one first.")
    named = ", ".join(f"{one.id} ({one.name})" for one in usable[:20])
    raise Invalid(
        "cluster_id_required", f"cluster_id is needed, because there are several clusters: {named}."
    )
