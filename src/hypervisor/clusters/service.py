"""Clusters: create, read, update and delete, in the caller's session. Permissions are checked before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.clusters import nodes, repository, resizing
from hypervisor.clusters.fields import changed_settings, cluster_values, implied_steps
from hypervisor.clusters.occupants import Occupants
from hypervisor.clusters.policy import ClusterAccess
from hypervisor.clusters.repository import Occupant
from hypervisor.clusters.responses import ClusterResponse, as_guest, cluster_answer
from hypervisor.clusters.schemas import ClusterCreate, ClusterUpdate
from hypervisor.errors import Conflict, Invalid
from hypervisor.events.log import record
from hypervisor.scheduling.repacking.solvers import SolverNotInstalled, is_installed
from hypervisor.store.database import WriteSession
from hypervisor.store.removals import enqueue_instance_gc, exceed_one_request
from hypervisor.store.tables import Attempt, Cluster, Decision, Deployment

NAMED_OCCUPANTS = 10


async def create(
    session: WriteSession,
    organization_id: int,
    request: ClusterCreate,
    *,
    runtime: str,
    resolved_runtime: str,
    now: datetime,
    actor: str,
) -> ClusterResponse:
    """Create a cluster with its nodes.

    Raises Conflict when the organization already uses the name, Invalid when the solver is not installed.
    """
    _check_solver(request.solver)
    await repository.lock_organization(session, organization_id)
    await _check_name(session, organization_id, request.name)
    specs = request.all_nodes()
    nodes.check_endpoints(specs, resolved_runtime)
    fields = {**cluster_values(request), "organization_id": organization_id, "runtime": runtime}
    cluster = Cluster(**fields, resolved_runtime=resolved_runtime, created_at=now)
    session.add(cluster)
    await session.flush()
    created = await nodes.insert_nodes(session, cluster.id, specs, now)
    _record(
        session, cluster, "cluster.created", f"cluster {cluster.name} with {len(created)} node(s)", now, actor
    )
    return await describe(session, cluster)


async def list_answers(
    session: AsyncSession,
    organization_ids: Collection[int] | None,
    *,
    after: int,
    limit: int,
    brief: bool = False,
) -> list[ClusterResponse]:
    """Clusters of these organizations (None: all) with ids above `after`, in three queries."""
    clusters = await repository.list_clusters(session, organization_ids, after=after, limit=limit)
    answers = await _describe_all(session, clusters, with_nodes=not brief)
    if organization_ids is None:
        return answers
    return [one if one.organization_id in organization_ids else as_guest(one) for one in answers]


async def describe(session: AsyncSession, cluster: Cluster) -> ClusterResponse:
    """The current state of the cluster in this session."""
    await session.flush()
    return (await _describe_all(session, [cluster], with_nodes=True))[0]


async def get(session: AsyncSession, access: ClusterAccess) -> ClusterResponse:
    cluster = await repository.find_cluster(session, access.cluster_id)
    if cluster is None:
        raise access.hidden
    answer = await describe(session, cluster)
    return as_guest(answer) if access.is_guest else answer


async def update(
    session: WriteSession,
    access: ClusterAccess,
    request: ClusterUpdate,
    occupants: Occupants,
    *,
    force: bool,
    now: datetime,
) -> ClusterResponse:
    """Change the given fields. Totals resize the only node. Raises Conflict, Invalid."""
    _check_solver(request.solver)
    if request.name is not None:
        await repository.lock_organization(session, access.organization_id)
    cluster = await nodes.lock_cluster(session, access)
    if request.name is not None and request.name != cluster.name:
        await _check_name(session, cluster.organization_id, request.name)
    changed = []
    values = changed_settings(request) | implied_steps(request, cluster.optimizer_steps)
    for setting, value in values.items():
        if value != getattr(cluster, setting):
            setattr(cluster, setting, value)
            changed.append(setting)
    if changed:
        message = f"cluster {cluster.name}: changed {', '.join(changed)}"
        _record(session, cluster, "cluster.updated", message, now, access.principal.actor)
    await _resize_only_node(session, access, cluster, request, occupants, force, now)
    return await describe(session, cluster)


async def delete(
    session: WriteSession, access: ClusterAccess, occupants: Occupants, *, force: bool, now: datetime
) -> bool:
    """Delete the cluster. True when it is deleted, False when it is deleted after its work has ended.

    Raises Conflict while the cluster has live or waiting deployments, unless `force`: then waiting ones are
    cancelled and live ones are stopped. Ended deployments are deleted with the cluster.
    """
    cluster = await repository.lock_cluster(session, access.cluster_id)
    if cluster is None:
        raise access.hidden
    actor = access.principal.actor
    users = await repository.users_of_cluster(session, cluster.id)
    if users and not force and cluster.deleting_at is None:
        raise _in_use(cluster, users)
    if cluster.deleting_at is None:
        cluster.deleting_at = now
        _record(session, cluster, "cluster.deleting", f"cluster {cluster.name} is being deleted", now, actor)
        sentence = f"the cluster {cluster.name} is being deleted"
        await occupants.clear_cluster(session, cluster.id, sentence=sentence, now=now, actor=actor)
    return await _finish_deletion(session, cluster, now, actor)


async def _finish_deletion(session: WriteSession, cluster: Cluster, now: datetime, actor: str) -> bool:
    """Remove a cluster that is being deleted, if no attempt holds capacity on it. A cluster with a long
    history is left to the maintenance loop, which deletes it in batches.
    """
    await session.flush()
    if cluster.deleting_at is None or await repository.holds_capacity(session, cluster_id=cluster.id):
        return False
    if await exceed_one_request(session, Deployment.id, Deployment.cluster_id == cluster.id):
        return False
    if await exceed_one_request(session, Decision.id, Decision.cluster_id == cluster.id):
        return False
    await enqueue_instance_gc(session, Attempt.cluster_id == cluster.id, now)
    _record(session, cluster, "cluster.deleted", f"cluster {cluster.name} was deleted", now, actor)
    await session.flush()
    session.expunge(cluster)
    await repository.delete_cluster(session, cluster.id)
    return True


async def _describe_all(
    session: AsyncSession, clusters: Sequence[Cluster], *, with_nodes: bool
) -> list[ClusterResponse]:
    ids = [cluster.id for cluster in clusters]
    by_cluster = await repository.nodes_of(session, ids)
    gpus = await repository.gpus_of_clusters(session, ids)
    return [
        cluster_answer(cluster, by_cluster.get(cluster.id, ()), gpus, with_nodes=with_nodes)
        for cluster in clusters
    ]


async def _check_name(session: AsyncSession, organization_id: int, name: str) -> None:
    if await repository.name_is_taken(session, organization_id, name):
        raise Conflict(
            "cluster_name_taken", f"The organization already has a cluster {name!r}; choose another name."
        )


def _check_solver(name: str | None) -> None:
    if name is not None and not is_installed(name):
        raise Invalid("solver_not_installed", str(SolverNotInstalled(name)))


async def _resize_only_node(
    session: WriteSession,
    access: ClusterAccess,
    cluster: Cluster,
    request: ClusterUpdate,
    occupants: Occupants,
    force: bool,
    now: datetime,
) -> None:
    change = request.node_update()
    if change is None:
        return
    own = (await repository.nodes_of(session, [cluster.id])).get(cluster.id, [])
    if len(own) != 1:
        raise Invalid(
            "several_nodes",
            f"The cluster has {len(own)} nodes, so totals cannot be set. Change its nodes instead.",
        )
    if force:
        await occupants.lock_on_node(session, access.cluster_id, own[0].id)
    node = await nodes.lock_node(session, access, own[0].id)
    await resizing.update_node(
        session, cluster, node, change, occupants, force=force, now=now, actor=access.principal.actor
    )


def _in_use(cluster: Cluster, users: Sequence[Occupant]) -> Conflict:
    named = ", ".join(user.shown for user in users[:NAMED_OCCUPANTS])
    more = f" and {len(users) - NAMED_OCCUPANTS} more" if len(users) > NAMED_OCCUPANTS else ""
    return Conflict(
        "cluster_in_use",
        f"Deployments run on the cluster {cluster.name!r} or wait for it: {named}{more}. "
        "End them first, or delete with ?force=true, which stops and cancels them.",
        extra={"deployments": [user.deployment_id for user in users[:100] if not user.is_guest]},
    )


def _record(
    session: WriteSession, cluster: Cluster, type_: str, message: str, now: datetime, actor: str
) -> None:
    record(
        session,
        organization_id=cluster.organization_id,
        cluster_id=cluster.id,
        at=now,
        actor=actor,
        type=type_,
        message=message,
    )
