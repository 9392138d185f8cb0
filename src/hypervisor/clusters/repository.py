"""Queries for clusters, nodes and devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, bindparam, delete, exists, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.lifecycle.states import LIVE, WAITING
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import (
    Allocation,
    Attempt,
    Cluster,
    ClusterShare,
    Deployment,
    Node,
    NodeGpu,
    Organization,
)

IN_CHUNK = 500
ANOTHERS = "a deployment of another organization"

# Built once: every submit runs these, and building a statement costs as much as running it.
_IDS: BindParameter[Sequence[int]] = bindparam("ids", expanding=True)
_OWN = (
    select(Cluster, Organization)
    .join(Organization, Organization.id == Cluster.organization_id)
    .where(Cluster.id.in_(_IDS), Organization.id.in_(bindparam("organization_ids", expanding=True)))
    .order_by(Organization.id, Cluster.id)
    .suffix_with("FOR KEY SHARE OF organizations FOR SHARE OF clusters", dialect="postgresql")
    .execution_options(populate_existing=True)
)
_OWNERS = select(Cluster.id, Cluster.organization_id).where(Cluster.id.in_(_IDS))
_HELD_ORGANIZATIONS = (
    select(Organization)
    .where(Organization.id.in_(_IDS))
    .order_by(Organization.id)
    .with_for_update(read=True, key_share=True)
    .execution_options(populate_existing=True)
)
_HELD_CLUSTERS = (
    select(Cluster)
    .where(Cluster.id.in_(_IDS))
    .order_by(Cluster.id)
    .with_for_update(read=True)
    .execution_options(populate_existing=True)
)
_NODES = select(Node).where(Node.cluster_id.in_(_IDS)).order_by(Node.id)
_CAPACITIES = (
    select(
        Node.cluster_id,
        Node.id,
        Node.name,
        Node.cpu_milli,
        Node.ram_mib,
        Node.gpu_count,
        Node.gpu_model,
        Node.labels,
        Node.target_cpu_milli,
        Node.target_ram_mib,
        Node.target_gpu_count,
    )
    .where(Node.cluster_id.in_(_IDS), ~Node.deleting)
    .order_by(Node.id)
)


class Capacity(NamedTuple):
    """The capacity of a node, and its target while it is being made smaller."""

    id: int
    name: str
    cpu_milli: int
    ram_mib: int
    gpu_count: int
    gpu_model: str | None
    labels: dict[str, str]
    target_cpu_milli: int | None
    target_ram_mib: int | None
    target_gpu_count: int | None


@dataclass(frozen=True, slots=True)
class Occupant:
    """A deployment that is live on a node or cluster, or waits for the cluster."""

    deployment_id: int
    name: str
    state: str
    is_guest: bool = False
    """Whether another organization owns the deployment: its id and name are not shown."""

    @property
    def shown(self) -> str:
        return ANOTHERS if self.is_guest else f"{self.name} ({self.deployment_id}, {self.state})"


class WaitingRequest(NamedTuple):
    """A deployment that waits for the cluster, with what it requests."""

    id: int
    name: str
    state: str
    is_guest: bool
    cpu_milli: int
    ram_mib: int
    gpu_milli: int
    replicas: int
    placement_limits: dict[str, Any] | None

    @property
    def occupant(self) -> Occupant:
        return Occupant(self.id, self.name, self.state, self.is_guest)


async def list_clusters(
    session: AsyncSession, organization_ids: Collection[int] | None, *, after: int, limit: int
) -> Sequence[Cluster]:
    """Clusters with ids above `after` that these organizations own or share (None: all), by id."""
    query = select(Cluster).where(Cluster.id > after).order_by(Cluster.id).limit(limit)
    if organization_ids is not None:
        ids = sorted(organization_ids)
        shared = select(ClusterShare.cluster_id).where(
            ClusterShare.organization_id.in_(ids), ClusterShare.state == "accepted"
        )
        query = query.where(or_(Cluster.organization_id.in_(ids), Cluster.id.in_(shared)))
    return (await session.scalars(query)).all()


async def guests_of(session: AsyncSession, cluster_id: int, organization_ids: Collection[int]) -> list[int]:
    """The organizations among these that the cluster is shared with."""
    rows = await session.scalars(
        select(ClusterShare.organization_id)
        .where(
            ClusterShare.cluster_id == cluster_id,
            ClusterShare.organization_id.in_(sorted(organization_ids)),
            ClusterShare.state == "accepted",
        )
        .order_by(ClusterShare.organization_id)
    )
    return list(rows)


async def find_cluster(session: AsyncSession, cluster_id: int) -> Cluster | None:
    return await session.get(Cluster, cluster_id)


async def lock_organization(session: WriteSession, organization_id: int) -> None:
    """Serialize changes that must stay unique or free of cycles within an organization.

    `FOR NO KEY UPDATE`: inserts that only refer to the organization, such as submits, do not wait.
    """
    await session.execute(
        select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True)
    )


async def lock_organization_shared(session: WriteSession, organization_id: int) -> bool:
    """Prevent the deletion of the organization (`FOR KEY SHARE`). False when it does not exist."""
    query = select(Organization.id).where(Organization.id == organization_id)
    return await session.scalar(query.with_for_update(read=True, key_share=True)) is not None


async def lock_organizations_shared(
    session: WriteSession, organization_ids: Collection[int]
) -> dict[int, Organization]:
    """`lock_organization_shared` for several: their rows by id, without missing ones."""
    if not organization_ids:
        return {}
    rows = await session.scalars(_HELD_ORGANIZATIONS, {"ids": sorted(organization_ids)})
    return {organization.id: organization for organization in rows}


async def lock_own_shared(
    session: WriteSession, cluster_ids: Collection[int], organization_ids: Collection[int]
) -> tuple[dict[int, Organization], dict[int, Cluster]]:
    """Both locks in one query, for clusters that these organizations own."""
    if not cluster_ids or not organization_ids:
        return {}, {}
    found = {"ids": sorted(cluster_ids), "organization_ids": sorted(organization_ids)}
    rows = (await session.execute(_OWN, found)).all()
    return {owner.id: owner for _, owner in rows}, {cluster.id: cluster for cluster, _ in rows}


async def owners_of(session: AsyncSession, cluster_ids: Collection[int]) -> dict[int, int]:
    """The organization of each cluster that exists."""
    if not cluster_ids:
        return {}
    rows = await session.execute(_OWNERS, {"ids": sorted(cluster_ids)})
    return {row.id: row.organization_id for row in rows}


async def lock_clusters_shared(session: WriteSession, cluster_ids: Collection[int]) -> dict[int, Cluster]:
    """These clusters, protected against changes until the end of the transaction (`FOR SHARE`)."""
    if not cluster_ids:
        return {}
    rows = await session.scalars(_HELD_CLUSTERS, {"ids": sorted(cluster_ids)})
    return {cluster.id: cluster for cluster in rows}


async def lock_cluster(session: WriteSession, cluster_id: int) -> Cluster | None:
    return await session.get(Cluster, cluster_id, with_for_update={"key_share": True}, populate_existing=True)


async def name_is_taken(session: AsyncSession, organization_id: int, name: str) -> bool:
    found = await session.scalar(
        select(Cluster.id).where(Cluster.organization_id == organization_id, Cluster.name == name)
    )
    return found is not None


async def nodes_of(session: AsyncSession, cluster_ids: Collection[int]) -> dict[int, list[Node]]:
    """The nodes of each cluster, by node id."""
    found: dict[int, list[Node]] = defaultdict(list)
    for node in await session.scalars(_NODES, {"ids": sorted(cluster_ids)}):
        found[node.cluster_id].append(node)
    return found


async def capacities_of(session: AsyncSession, cluster_ids: Collection[int]) -> dict[int, list[Capacity]]:
    """The capacities of each cluster's nodes by node id, without nodes that are being removed.

    Much cheaper than loading the nodes.
    """
    found: dict[int, list[Capacity]] = defaultdict(list)
    for cluster_id, *capacity in await session.execute(_CAPACITIES, {"ids": sorted(cluster_ids)}):
        found[cluster_id].append(Capacity._make(capacity))
    return found


async def list_nodes(session: AsyncSession, cluster_id: int, *, after: int, limit: int) -> Sequence[Node]:
    query = select(Node).where(Node.cluster_id == cluster_id, Node.id > after).order_by(Node.id).limit(limit)
    return (await session.scalars(query)).all()


async def find_node(session: AsyncSession, cluster_id: int, node_id: int) -> Node | None:
    return await session.scalar(select(Node).where(Node.cluster_id == cluster_id, Node.id == node_id))


async def lock_node(session: WriteSession, cluster_id: int, node_id: int) -> Node | None:
    """The node, with the lock that every commit of allocations takes."""
    return await session.scalar(
        select(Node)
        .where(Node.cluster_id == cluster_id, Node.id == node_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


async def gpus_of_clusters(session: AsyncSession, cluster_ids: Collection[int]) -> dict[int, list[NodeGpu]]:
    """The devices by node id, for all nodes of these clusters."""
    query = (
        select(NodeGpu)
        .join(Node, Node.id == NodeGpu.node_id)
        .where(Node.cluster_id.in_(sorted(cluster_ids)))
        .order_by(NodeGpu.node_id, NodeGpu.gpu_index)
    )
    return _by_node(list(await session.scalars(query)))


async def gpus_of_nodes(session: AsyncSession, node_ids: Collection[int]) -> dict[int, list[NodeGpu]]:
    query = (
        select(NodeGpu)
        .where(NodeGpu.node_id.in_(sorted(node_ids)))
        .order_by(NodeGpu.node_id, NodeGpu.gpu_index)
        .execution_options(populate_existing=True)
    )
    return _by_node(list(await session.scalars(query)))


async def taken_node_names(session: AsyncSession, cluster_id: int, names: Collection[str]) -> list[str]:
    """The names among these that nodes of the cluster already have."""
    requested = set(names)
    existing = await session.scalars(select(Node.name).where(Node.cluster_id == cluster_id))
    return sorted(requested.intersection(existing))


async def add_devices(session: WriteSession, devices: Sequence[tuple[int, int]]) -> None:
    """Insert free devices, given as (node id, index)."""
    if devices:
        rows = [{"node_id": node, "gpu_index": index, "used_milli": 0} for node, index in devices]
        await session.execute(insert(NodeGpu), rows)


async def remove_devices(session: WriteSession, node_id: int, from_index: int) -> None:
    """Delete the devices from an index on. The database refuses while one of them is in use."""
    await session.execute(
        delete(NodeGpu)
        .where(NodeGpu.node_id == node_id, NodeGpu.gpu_index >= from_index)
        .execution_options(synchronize_session=False)
    )


async def occupants_of_node(session: AsyncSession, node_id: int) -> Sequence[tuple[int, Occupant]]:
    """(attempt id, deployment) of every attempt that holds capacity on the node, by deployment id."""
    rows = await session.execute(
        select(Allocation.attempt_id, Deployment.id, Deployment.name, Deployment.state, _is_guest())
        .join(Deployment, Deployment.id == Allocation.deployment_id)
        .join(Cluster, Cluster.id == Deployment.cluster_id)
        .where(Allocation.node_id == node_id)
        .order_by(Deployment.id)
    )
    return [(attempt_id, Occupant(id_, name, state, guest)) for attempt_id, id_, name, state, guest in rows]


async def stoppable_attempts(session: AsyncSession, node_id: int) -> list[int]:
    """Attempts that hold capacity on the node and have no stop request."""
    rows = await session.scalars(
        select(Allocation.attempt_id)
        .join(Attempt, Attempt.id == Allocation.attempt_id)
        .where(Allocation.node_id == node_id, Attempt.stop_requested_at.is_(None))
        .order_by(Allocation.attempt_id)
    )
    return list(rows)


async def allocations_of_node(
    session: AsyncSession, node_id: int
) -> Sequence[tuple[Allocation, Attempt, Deployment]]:
    rows = await session.execute(
        select(Allocation, Attempt, Deployment)
        .join(Attempt, Attempt.id == Allocation.attempt_id)
        .join(Deployment, Deployment.id == Allocation.deployment_id)
        .where(Allocation.node_id == node_id)
    )
    return [(allocation, attempt, deployment) for allocation, attempt, deployment in rows]


async def users_of_cluster(session: AsyncSession, cluster_id: int) -> Sequence[Occupant]:
    """Live and waiting deployments of the cluster, by id."""
    states = [state.value for state in WAITING | LIVE]
    rows = await session.execute(
        select(Deployment.id, Deployment.name, Deployment.state, _is_guest())
        .join(Cluster, Cluster.id == Deployment.cluster_id)
        .where(Deployment.cluster_id == cluster_id, Deployment.state.in_(states))
        .order_by(Deployment.id)
    )
    return [Occupant(*row) for row in rows]


async def waiting_without_a_node(session: AsyncSession, cluster_id: int, limit: int) -> list[WaitingRequest]:
    """The oldest waiting deployments that may fit no node: too large for each, limited, or a gang."""
    large_enough = exists().where(
        Node.cluster_id == cluster_id,
        ~Node.deleting,
        func.coalesce(Node.target_cpu_milli, Node.cpu_milli) >= Deployment.cpu_milli,
        func.coalesce(Node.target_ram_mib, Node.ram_mib) >= Deployment.ram_mib,
        func.coalesce(Node.target_gpu_count, Node.gpu_count) * WHOLE_GPU >= Deployment.gpu_milli,
    )
    rows = await session.execute(
        select(
            Deployment.id,
            Deployment.name,
            Deployment.state,
            _is_guest(),
            Deployment.cpu_milli,
            Deployment.ram_mib,
            Deployment.gpu_milli,
            Deployment.replicas,
            Deployment.placement_limits,
        )
        .join(Cluster, Cluster.id == Deployment.cluster_id)
        .where(
            Deployment.cluster_id == cluster_id,
            Deployment.state.in_([state.value for state in WAITING]),
            or_(Deployment.replicas > 1, Deployment.placement_limits.is_not(None), ~large_enough),
        )
        .order_by(Deployment.id)
        .limit(limit)
    )
    return [WaitingRequest(*row) for row in rows]


async def holds_capacity(session: AsyncSession, *, cluster_id: int) -> bool:
    """Whether an attempt holds capacity on the cluster: it is live, or its end was not observed yet."""
    found = await session.scalar(
        select(Allocation.attempt_id).where(Allocation.cluster_id == cluster_id).limit(1)
    )
    return found is not None


async def delete_node(session: WriteSession, node_id: int) -> None:
    await session.execute(delete(Node).where(Node.id == node_id).execution_options(synchronize_session=False))


async def delete_cluster(session: WriteSession, cluster_id: int) -> None:
    """Delete the row with its nodes, deployments and attempts."""
    await session.execute(
        delete(Cluster).where(Cluster.id == cluster_id).execution_options(synchronize_session=False)
    )


def _is_guest() -> ColumnElement[bool]:
    return Deployment.organization_id != Cluster.organization_id


def _by_node(devices: Sequence[NodeGpu]) -> dict[int, list[NodeGpu]]:
    found: dict[int, list[NodeGpu]] = defaultdict(list)
    for device in devices:
        found[device.node_id].append(device)
    return found
