"""Where requests go: the organization and the clusters of each, held until the end of the transaction.

Many submissions are placed together: what they need is read once for all, in the order organizations,
clusters, each by id, and every one of them is then judged for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.clusters import repository as clusters
from hypervisor.clusters.policy import no_such_cluster
from hypervisor.deployments.references import RefusedMember
from hypervisor.deployments.schemas import DeploymentCreate
from hypervisor.errors import Conflict, HypervisorError, Invalid
from hypervisor.identity.principal import Principal
from hypervisor.kernel.roles import Role
from hypervisor.organizations.access import (
    OrganizationAccess,
    check_role,
    judge_access,
    not_found,
    only_organization,
)
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Cluster


@dataclass(slots=True)
class Case:
    """Requests that are placed all or none, on their way through the checks until one refuses them."""

    principal: Principal
    requests: Sequence[DeploymentCreate]
    refusal: HypervisorError | RefusedMember | None = None
    organization_id: int = 0
    clusters: Sequence[Cluster] = ()
    """One for each request."""

    @contextmanager
    def judged(self) -> Iterator[None]:
        """A refusal within is that of this case and of no other."""
        try:
            yield
        except (HypervisorError, RefusedMember) as refusal:
            self.refusal = refusal


def standing(cases: Iterable[Case]) -> list[Case]:
    """Those that nothing has refused so far."""
    return [case for case in cases if case.refusal is None]


async def place(session: WriteSession, cases: Sequence[Case]) -> None:
    """Find and hold the organization and the clusters of each case, so that none is deleted meanwhile."""
    requests = [request for case in cases for request in case.requests]
    named = {request.cluster_id for request in requests if request.cluster_id is not None}
    owners = await clusters.owners_of(session, named)
    for case in cases:
        with case.judged():
            case.organization_id = await _find_organization(session, case, owners)
    accesses = await _hold_organizations(session, cases)
    await _hold_clusters(session, cases, accesses)


async def _find_organization(session: AsyncSession, case: Case, owners: Mapping[int, int]) -> int:
    """The one organization of all requests: named, or told by their clusters, or the caller's only one."""
    wanted: set[int | None] = set()
    for index, request in enumerate(case.requests):
        told = await _told_by(session, case.principal, request.cluster_id, owners)
        if request.cluster_id is not None and not told:
            raise RefusedMember(index, no_such_cluster(request.cluster_id))
        only = told[0] if len(told) == 1 else None
        wanted.add(only if request.organization_id is None else request.organization_id)
    if len(wanted) > 1:
        wanted.discard(None)
    if len(wanted) > 1:
        raise Invalid("several_organizations", "All deployments of a batch belong to one organization.")
    found = wanted.pop() or only_organization(case.principal)
    check_role(case.principal, found, Role.DEVELOPER, hidden=not_found("organization", found))
    return found


async def _told_by(
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


async def _hold_organizations(session: WriteSession, cases: Sequence[Case]) -> dict[int, OrganizationAccess]:
    """What each case may do in its organization, by its index."""
    held = await clusters.hold_organizations(session, {case.organization_id for case in standing(cases)})
    accesses: dict[int, OrganizationAccess] = {}
    for index, case in enumerate(cases):
        if case.refusal is None:
            with case.judged():
                organization = held.get(case.organization_id)
                accesses[index] = judge_access(
                    case.principal, case.organization_id, organization, Role.DEVELOPER
                )
    return accesses


async def _hold_clusters(
    session: WriteSession, cases: Sequence[Case], accesses: Mapping[int, OrganizationAccess]
) -> None:
    chosen: dict[int, Sequence[int]] = {}
    for index, access in accesses.items():
        with cases[index].judged():
            chosen[index] = await _cluster_ids(session, cases[index].requests, access)
    held = await clusters.hold_clusters(session, {id_ for ids in chosen.values() for id_ in ids})
    for index, ids in chosen.items():
        with cases[index].judged():
            cases[index].clusters = await _usable(session, ids, held, accesses[index].organization_id)


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
            raise RefusedMember(index, no_such_cluster(id_))
        if held[id_].deleting_at is not None:
            deleting = Conflict("cluster_deleting", f"The cluster {held[id_].name!r} is being deleted.")
            raise RefusedMember(index, deleting)
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
