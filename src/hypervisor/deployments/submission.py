"""Submitting deployments: one or a thousand, all or none, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.clusters import repository as clusters
from hypervisor.clusters.policy import no_such_cluster
from hypervisor.deployments import idempotency, repository
from hypervisor.deployments.dependents import Parent, Standing, judge_standing
from hypervisor.deployments.environment import seal_environment
from hypervisor.deployments.idempotency import KeyedRequest
from hypervisor.deployments.references import Edge, RefusedMember, resolve_edges
from hypervisor.deployments.requirements import ClusterLimits, placement_limits, shape_of
from hypervisor.deployments.schemas import DeploymentCreate
from hypervisor.deployments.transitions import record_creation, set_reason
from hypervisor.errors import Conflict, HypervisorError, Invalid
from hypervisor.identity.principal import Principal
from hypervisor.infra.observability.tracing import current_traceparent
from hypervisor.infra.security.sealing import Sealer
from hypervisor.kernel.roles import Role
from hypervisor.lifecycle.states import State
from hypervisor.organizations.access import OrganizationAccess, not_found, resolve_organization
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Cluster, Dependency, Deployment


@dataclass(frozen=True, slots=True)
class Submitted:
    """`replayed`: they were made by an earlier request with the same Idempotency-Key."""

    deployments: list[Deployment]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request would go, for whom, and what it would wait for before it may queue."""

    organization_id: int
    cluster: Cluster
    standing: Standing


async def find_place(session: WriteSession, principal: Principal, request: DeploymentCreate) -> Place:
    """What `submit` would find for one request; nothing is made.

    Raises what `submit` raises, except that no node could ever take it: that is for a forecast to say.
    """
    access = await _find_organization(session, principal, [request])
    (cluster,) = await _choose_clusters(session, access, [request])
    ClusterLimits(cluster, ()).check_runtime(request.docker_image, request.command)
    (edges,) = await resolve_edges(session, access.organization_id, [request])
    return Place(access.organization_id, cluster, judge_standing(_existing_parents(edges)))


async def submit(
    session: WriteSession,
    principal: Principal,
    requests: Sequence[DeploymentCreate],
    *,
    sealer: Sealer,
    now: datetime,
    keyed: KeyedRequest | None = None,
) -> Submitted:
    """Make these deployments in the caller's transaction, each with its first event.

    Raises RefusedMember around the refusal of one request; NotFound, Forbidden, Invalid, Conflict for all.
    """
    if keyed is not None:
        made_before = await idempotency.claim(session, keyed, now)
        if made_before is not None:
            return Submitted(await _made_before(session, made_before), replayed=True)
    access = await _find_organization(session, principal, requests)
    if not await clusters.hold_organization(session, access.organization_id):
        raise not_found("organization", access.organization_id)
    places = await _choose_clusters(session, access, requests)
    await _check_requirements(session, requests, places)
    edges = await resolve_edges(session, access.organization_id, requests)
    made = [
        _new_deployment(request, access.organization_id, place, own, principal, sealer, now)
        for request, place, own in zip(requests, places, edges, strict=True)
    ]
    await _insert(session, made, edges)
    for deployment in made:
        record_creation(session, deployment, now=now, actor=principal.actor)
    if keyed is not None:
        await idempotency.remember(session, keyed, [one.id for one in made])
    await session.flush()
    return Submitted(made)


async def _made_before(session: AsyncSession, ids: Sequence[int]) -> list[Deployment]:
    found = await repository.find_all(session, ids)
    if len(found) < len(ids):
        raise Conflict(
            "idempotency_key_gone",
            "What was made under this Idempotency-Key has been deleted since; use a new key.",
        )
    return found


async def _find_organization(
    session: AsyncSession, principal: Principal, requests: Sequence[DeploymentCreate]
) -> OrganizationAccess:
    """The one organization of all requests: named, or told by their clusters, or the caller's only one."""
    ids = {request.cluster_id for request in requests if request.cluster_id is not None}
    by_cluster = await _organizations_of(session, principal, ids)
    wanted: set[int | None] = set()
    for index, request in enumerate(requests):
        told = by_cluster.get(request.cluster_id or 0, [])
        if request.cluster_id is not None and not told:
            raise RefusedMember(index, no_such_cluster(request.cluster_id))
        only = told[0] if len(told) == 1 else None
        wanted.add(only if request.organization_id is None else request.organization_id)
    if len(wanted) > 1:
        wanted.discard(None)
    if len(wanted) > 1:
        raise Invalid("several_organizations", "All deployments of a batch belong to one organization.")
    return await resolve_organization(session, principal, wanted.pop(), Role.DEVELOPER)


async def _organizations_of(
    session: AsyncSession, principal: Principal, cluster_ids: Collection[int]
) -> dict[int, list[int]]:
    """For which of the caller's organizations each cluster may be used: its owner, else whom it is shared
    with. Empty or left out where there is none.
    """
    query = select(Cluster.id, Cluster.organization_id).where(Cluster.id.in_(sorted(cluster_ids)))
    found: dict[int, list[int]] = {}
    for id_, owner in (await session.execute(query)).all():
        is_own = principal.role_in(owner) is not None
        found[id_] = [owner] if is_own else await clusters.guests_of(session, id_, principal.memberships)
    return found


async def _choose_clusters(
    session: WriteSession, access: OrganizationAccess, requests: Sequence[DeploymentCreate]
) -> list[Cluster]:
    """The cluster of each request, held so that none is deleted before this is committed."""
    wanted = {request.cluster_id for request in requests if request.cluster_id is not None}
    only: int | None = None
    if any(request.cluster_id is None for request in requests):
        only = await _only_cluster(session, access)
        wanted.add(only)
    by_id = await clusters.hold_clusters(session, wanted)
    chosen = []
    for index, request in enumerate(requests):
        cluster = by_id.get(request.cluster_id or only or 0)
        if cluster is None or not await _may_use(session, cluster, access.organization_id):
            raise RefusedMember(index, no_such_cluster(request.cluster_id or only or 0))
        if cluster.deleting_at is not None:
            deleting = Conflict("cluster_deleting", f"The cluster {cluster.name!r} is being deleted.")
            raise RefusedMember(index, deleting)
        chosen.append(cluster)
    return chosen


async def _may_use(session: AsyncSession, cluster: Cluster, organization_id: int) -> bool:
    """Whether it is the organization's own cluster or shared with it. The caller holds the cluster."""
    if cluster.organization_id == organization_id:
        return True
    return bool(await clusters.guests_of(session, cluster.id, [organization_id]))


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


async def _check_requirements(
    session: AsyncSession, requests: Sequence[DeploymentCreate], places: Sequence[Cluster]
) -> None:
    by_id = {cluster.id: cluster for cluster in places}
    nodes = await clusters.nodes_of(session, by_id)
    limits = {id_: ClusterLimits(cluster, nodes.get(id_, ())) for id_, cluster in by_id.items()}
    for index, (request, cluster) in enumerate(zip(requests, places, strict=True)):
        wanted = placement_limits(request.all_gpu_models, request.node_selector or {})
        try:
            limits[cluster.id].check_runtime(request.docker_image, request.command)
            limits[cluster.id].check(shape_of(request.resources, wanted), request.replicas)
        except HypervisorError as error:
            raise RefusedMember(index, error) from None


def _new_deployment(
    request: DeploymentCreate,
    organization_id: int,
    cluster: Cluster,
    edges: Sequence[Edge],
    principal: Principal,
    sealer: Sealer,
    now: datetime,
) -> Deployment:
    required = request.resources
    standing = judge_standing(_existing_parents(edges))
    waits_for_member = any(edge.member is not None for edge in edges)
    state = State.BLOCKED if waits_for_member else standing.state
    return Deployment(
        organization_id=organization_id,
        cluster_id=cluster.id,
        created_by=principal.user_id,
        name=request.name,
        kind=request.kind,
        docker_image=request.docker_image,
        command=request.command or None,
        env=seal_environment(request.env, sealer) if request.env else None,
        ports=request.ports or None,
        read_only_root=request.read_only_root,
        cpu_milli=required.cpu_milli,
        ram_mib=required.ram_mib,
        gpu_milli=required.gpu_milli,
        placement_limits=placement_limits(request.all_gpu_models, request.node_selector or {}),
        replicas=request.replicas,
        spread=request.placement == "spread",
        gang_timeout_seconds=request.gang_timeout_seconds,
        priority=request.priority,
        preemptible=request.preemptible,
        min_runtime_seconds=request.min_runtime_seconds,
        max_runtime_seconds=request.max_runtime_seconds,
        grace_period_seconds=request.grace_period_seconds,
        restart_policy=request.chosen_restart_policy,
        max_retries=request.chosen_max_retries,
        retry_exit_codes=request.retry_exit_codes or None,
        on_failure=request.on_failure,
        labels=request.labels or None,
        state=state.value,
        reason_code=standing.code,
        reason=standing.sentence,
        traceparent=current_traceparent(),
        created_at=now,
        queued_at=now if state is State.QUEUED else None,
    )


async def _insert(session: WriteSession, made: Sequence[Deployment], edges: Sequence[Sequence[Edge]]) -> None:
    session.add_all(made)
    await session.flush()
    await _insert_edges(session, made, edges)
    await repository.insert_labels(session, made)
    _tell_what_members_wait_for(made, edges)


async def _insert_edges(
    session: WriteSession, made: Sequence[Deployment], edges: Sequence[Sequence[Edge]]
) -> None:
    rows = [
        {
            "deployment_id": child.id,
            "depends_on_id": made[edge.member].id if edge.member is not None else _existing(edge).id,
            "condition": edge.condition.value,
        }
        for child, own in zip(made, edges, strict=True)
        for edge in own
    ]
    if rows:
        await session.execute(insert(Dependency), rows)


def _tell_what_members_wait_for(made: Sequence[Deployment], edges: Sequence[Sequence[Edge]]) -> None:
    """Now that ids are known: the reason of those that wait for other members of the batch."""
    for child, own in zip(made, edges, strict=True):
        members = [
            Parent(
                made[edge.member].id, made[edge.member].name, State(made[edge.member].state), edge.condition
            )
            for edge in own
            if edge.member is not None
        ]
        if members:
            standing = judge_standing([*_existing_parents(own), *members])
            set_reason(child, standing.code, standing.sentence)


def _existing_parents(edges: Sequence[Edge]) -> list[Parent]:
    found = [(edge.existing, edge.condition) for edge in edges if edge.existing is not None]
    return [Parent(one.id, one.name, State(one.state), condition) for one, condition in found]


def _existing(edge: Edge) -> Deployment:
    if edge.existing is None:
        raise AssertionError("an edge leads to a member or to an existing deployment")
    return edge.existing
