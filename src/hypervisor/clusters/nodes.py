"""Nodes: add, read, cordon, uncordon, drain and remove."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.clusters import repository
from hypervisor.clusters.fields import node_values
from hypervisor.clusters.occupants import Occupants
from hypervisor.clusters.policy import ClusterAccess
from hypervisor.clusters.responses import NodeResponse, node_answer
from hypervisor.clusters.schemas import NodeCreate
from hypervisor.clusters.stranded import check_stranded
from hypervisor.errors import Conflict, Invalid
from hypervisor.events.log import record
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.organizations.access import not_found
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Cluster, Node

NAMED_OCCUPANTS = 10


async def lock_cluster(session: WriteSession, access: ClusterAccess) -> Cluster:
    """The cluster, locked for a change. Raises NotFound; Conflict when it is being deleted."""
    cluster = await repository.lock_cluster(session, access.cluster_id)
    if cluster is None:
        raise access.hidden
    if cluster.deleting_at is not None:
        raise Conflict("cluster_deleting", f"The cluster {cluster.name!r} is being deleted.")
    return cluster


async def lock_node(session: WriteSession, access: ClusterAccess, node_id: int) -> Node:
    """The node, locked against commits of allocations. Raises NotFound; Conflict when it is being removed."""
    node = await repository.lock_node(session, access.cluster_id, node_id)
    if node is None:
        raise not_found("node", node_id)
    if node.deleting:
        raise Conflict("node_deleting", f"The node {node.name!r} is being removed.")
    return node


async def list_answers(
    session: AsyncSession, access: ClusterAccess, *, after: int, limit: int
) -> list[NodeResponse]:
    found = await repository.list_nodes(session, access.cluster_id, after=after, limit=limit)
    return await describe_all(session, found)


async def get(session: AsyncSession, access: ClusterAccess, node_id: int) -> NodeResponse:
    node = await repository.find_node(session, access.cluster_id, node_id)
    if node is None:
        raise not_found("node", node_id)
    return await describe(session, node)


async def describe(session: AsyncSession, node: Node) -> NodeResponse:
    return (await describe_all(session, [node]))[0]


async def describe_all(session: AsyncSession, rows: Sequence[Node]) -> list[NodeResponse]:
    """The nodes with their devices; one query."""
    await session.flush()
    gpus = await repository.gpus_of_nodes(session, [node.id for node in rows])
    return [node_answer(node, gpus.get(node.id, ())) for node in rows]


async def add(
    session: WriteSession, access: ClusterAccess, request: NodeCreate, *, now: datetime
) -> list[Node]:
    """Add a node, or `count` equal nodes. Raises Conflict for names that the cluster already has."""
    cluster = await lock_cluster(session, access)
    check_endpoints([request], cluster.resolved_runtime)
    taken = await repository.taken_node_names(session, cluster.id, request.names)
    if taken:
        raise Conflict("node_name_taken", f"The cluster already has these nodes: {', '.join(taken[:10])}.")
    created = await insert_nodes(session, cluster.id, [request], now)
    message = (
        f"added {created[0].name}" if len(created) == 1 else f"added {created[0].name} to {created[-1].name}"
    )
    record_node(session, cluster, "node.added", message, now=now, actor=access.principal.actor)
    return created


async def insert_nodes(
    session: WriteSession, cluster_id: int, specs: Sequence[NodeCreate], now: datetime
) -> list[Node]:
    """Insert the nodes with their devices, in the order given."""
    created = [_new_node(cluster_id, spec, name, now) for spec in specs for name in spec.names]
    session.add_all(created)
    await session.flush()
    await repository.add_devices(
        session, [(node.id, index) for node in created for index in range(node.gpu_count)]
    )
    return created


async def cordon(
    session: WriteSession, access: ClusterAccess, node_id: int, *, cordoned: bool, now: datetime
) -> NodeResponse:
    """Cordon the node, or uncordon it, which also ends a drain."""
    cluster = await lock_cluster(session, access)
    node = await lock_node(session, access, node_id)
    if node.cordoned != cordoned or (node.draining and not cordoned):
        node.cordoned = cordoned
        node.draining = node.draining and cordoned
        word = "cordoned" if cordoned else "uncordoned"
        message = f"{node.name} accepts no new work" if cordoned else f"{node.name} accepts work again"
        record_node(session, cluster, f"node.{word}", message, now=now, actor=access.principal.actor)
    return await describe(session, node)


async def drain(
    session: WriteSession, access: ClusterAccess, node_id: int, occupants: Occupants, *, now: datetime
) -> NodeResponse:
    """Cordon the node and stop its attempts. Their deployments return to their positions in the queue."""
    cluster = await lock_cluster(session, access)
    await occupants.lock_on_node(session, access.cluster_id, node_id)
    node = await lock_node(session, access, node_id)
    actor = access.principal.actor
    if not node.draining:
        node.draining = True
        record_node(session, cluster, "node.draining", f"{node.name} is being drained", now=now, actor=actor)
    await _evict(session, node, occupants, f"its node {node.name} is being drained", now=now, actor=actor)
    return await describe(session, node)


async def remove(
    session: WriteSession,
    access: ClusterAccess,
    node_id: int,
    occupants: Occupants,
    *,
    force: bool,
    now: datetime,
) -> bool:
    """Remove the node. Returns False if that happens later, after its work has ended.

    Raises Conflict while a deployment holds capacity on the node, or waits and could run on no other, unless
    `force`: then the node is drained first.
    """
    cluster = await lock_cluster(session, access)
    await occupants.lock_on_node(session, access.cluster_id, node_id)
    node = await repository.lock_node(session, access.cluster_id, node_id)
    if node is None:
        raise not_found("node", node_id)
    actor = access.principal.actor
    held = await repository.occupants_of_node(session, node.id)
    if held and not force and not node.deleting:
        named = ", ".join(one.shown for _, one in held[:NAMED_OCCUPANTS])
        raise Conflict(
            "node_in_use",
            f"Deployments run on the node {node.name!r}: {named}. Drain it first, or remove it with "
            "?force=true, which sends them back to the queue.",
            extra={"deployments": [one.deployment_id for _, one in held[:100] if not one.is_guest]},
        )
    before = (await repository.capacities_of(session, [cluster.id])).get(cluster.id, ())
    must_check = not force and not node.deleting
    node.deleting = True
    if must_check:
        await check_stranded(session, cluster.id, before)
    await _evict(session, node, occupants, f"its node {node.name} is being removed", now=now, actor=actor)
    return await _finish_removal(session, cluster, node, now, actor)


async def _finish_removal(
    session: WriteSession, cluster: Cluster, node: Node, now: datetime, actor: str
) -> bool:
    """Delete a locked node that is being removed, if no attempt holds capacity on it."""
    await session.flush()
    if not node.deleting or await repository.occupants_of_node(session, node.id):
        return False
    record_node(session, cluster, "node.deleted", f"{node.name} was removed", now=now, actor=actor)
    await session.flush()
    session.expunge(node)
    await repository.delete_node(session, node.id)
    return True


def check_endpoints(specs: Sequence[NodeCreate], runtime: str) -> None:
    """Raises Invalid for an engine endpoint on any runtime but docker."""
    if runtime != "docker" and any(spec.engine_endpoint for spec in specs):
        raise Invalid(
            "engine_endpoint_without_docker",
            f"engine_endpoint needs a cluster with the runtime docker; this cluster has {runtime}.",
        )


def record_node(
    session: WriteSession, cluster: Cluster, type_: str, message: str, *, now: datetime, actor: str
) -> None:
    record(
        session,
        organization_id=cluster.organization_id,
        cluster_id=cluster.id,
        at=now,
        actor=actor,
        type=type_,
        message=f"cluster {cluster.name}: {message}",
    )


async def _evict(
    session: WriteSession, node: Node, occupants: Occupants, sentence: str, *, now: datetime, actor: str
) -> None:
    """Stop the attempts on the node; their deployments are queued again."""
    await session.flush()
    attempts = await repository.stoppable_attempts(session, node.id)
    await occupants.stop_attempts(
        session,
        attempts,
        StopReason.DRAINED,
        sentence=f"{sentence}; it keeps its queue position",
        now=now,
        actor=actor,
    )


def _new_node(cluster_id: int, spec: NodeCreate, name: str, now: datetime) -> Node:
    resources = spec.resources
    return Node(
        **node_values(spec),
        cluster_id=cluster_id,
        name=name,
        cpu_milli=resources.cpu_milli,
        ram_mib=resources.ram_mib,
        labels=dict(spec.labels),
        created_at=now,
    )
