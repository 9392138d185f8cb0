"""Resizing of nodes. A shrink below the allocated amount waits until enough work has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hypervisor.clusters import nodes, repository
from hypervisor.clusters.nodes import record_node
from hypervisor.clusters.occupants import Occupants
from hypervisor.clusters.policy import ClusterAccess
from hypervisor.clusters.responses import NodeResponse
from hypervisor.clusters.schemas import NodeUpdate
from hypervisor.clusters.stranded import check_stranded
from hypervisor.errors import Conflict
from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.scheduling.defragmentation.shrink import victims_to_shrink
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import AllocationTable
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Cluster, Node


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a node. A smaller node loses the devices with the highest indices."""

    cpu_milli: int
    ram_mib: int
    gpu_count: int


@dataclass(frozen=True, slots=True)
class Held:
    """The allocated amounts of a node. `highest_gpu` is one more than the highest device in use."""

    cpu_milli: int
    ram_mib: int
    devices: tuple[int, ...]

    @property
    def highest_gpu(self) -> int:
        return max(self.devices, default=-1) + 1

    def over(self, size: Size) -> Resources:
        """The amounts in use above this size: cores, memory and devices."""
        beyond = sum(1 for index in self.devices if index >= size.gpu_count)
        return Resources(
            max(0, self.cpu_milli - size.cpu_milli),
            max(0, self.ram_mib - size.ram_mib),
            beyond * WHOLE_GPU,
        )


async def update(
    session: WriteSession,
    access: ClusterAccess,
    node_id: int,
    request: NodeUpdate,
    occupants: Occupants,
    *,
    force: bool,
    now: datetime,
) -> NodeResponse:
    """`update_node` by id. Raises NotFound, Conflict."""
    cluster = await nodes.lock_cluster(session, access)
    if force:
        await occupants.lock_on_node(session, access.cluster_id, node_id)
    node = await nodes.lock_node(session, access, node_id)
    actor = access.principal.actor
    await update_node(session, cluster, node, request, occupants, force=force, now=now, actor=actor)
    return await nodes.describe(session, node)


async def update_node(
    session: WriteSession,
    cluster: Cluster,
    node: Node,
    request: NodeUpdate,
    occupants: Occupants,
    *,
    force: bool,
    now: datetime,
    actor: str,
) -> None:
    """Apply the given fields to a locked node.

    Raises Conflict "shrink_below_allocated" with the exact shortfall, "node_needed" when a waiting deployment
    would fit no node any more. With `force` the target is stored: the scheduler places nothing above it, the
    least important attempts are stopped, and the capacity shrinks when they have ended.
    """
    changed = request.model_fields_set
    before = (await repository.capacities_of(session, [cluster.id])).get(cluster.id, ())
    if "gpu_model" in changed:
        node.gpu_model = request.gpu_model
    if request.labels is not None:
        node.labels = dict(request.labels)
    target = _target(node, request)
    held = await _held(session, node)
    missing = held.over(target)
    if not missing.is_zero and not force:
        raise _too_small(node, held, target, missing)
    node.target_cpu_milli, node.target_ram_mib = target.cpu_milli, target.ram_mib
    node.target_gpu_count = target.gpu_count
    message = f"{node.name} changed: {', '.join(sorted(changed)) or 'nothing'}"
    record_node(session, cluster, "node.updated", message, now=now, actor=actor)
    if not missing.is_zero:
        await _evict(session, cluster, node, target, occupants, now=now, actor=actor)
    await _settle(session, node)
    if not force:
        await check_stranded(session, cluster.id, before)


async def _settle(session: WriteSession, node: Node) -> None:
    """Move the capacity of a locked node towards its target, as far as running work permits."""
    target = _target(node, NodeUpdate())
    held = await _held(session, node)
    size = Size(
        max(target.cpu_milli, held.cpu_milli),
        max(target.ram_mib, held.ram_mib),
        max(target.gpu_count, held.highest_gpu),
    )
    await _set_devices(session, node, size.gpu_count)
    node.cpu_milli, node.ram_mib = size.cpu_milli, size.ram_mib
    reached = size == target
    node.target_cpu_milli = None if reached else target.cpu_milli
    node.target_ram_mib = None if reached else target.ram_mib
    node.target_gpu_count = None if reached else target.gpu_count
    await session.flush()


def _target(node: Node, request: NodeUpdate) -> Size:
    """The target size of the node, changed by the given fields."""
    current = Size(
        node.cpu_milli if node.target_cpu_milli is None else node.target_cpu_milli,
        node.ram_mib if node.target_ram_mib is None else node.target_ram_mib,
        node.gpu_count if node.target_gpu_count is None else node.target_gpu_count,
    )
    requested = Resources.from_edge(cpu_cores=request.cpu_cores or 0, ram_gb=request.ram_gb or 0, gpu_count=0)
    return Size(
        current.cpu_milli if request.cpu_cores is None else requested.cpu_milli,
        current.ram_mib if request.ram_gb is None else requested.ram_mib,
        current.gpu_count if request.gpu_count is None else request.gpu_count,
    )


async def _held(session: WriteSession, node: Node) -> Held:
    devices = (await repository.gpus_of_nodes(session, [node.id])).get(node.id, [])
    used = tuple(device.gpu_index for device in devices if device.used_milli)
    return Held(node.used_cpu_milli, node.used_ram_mib, used)


async def _set_devices(session: WriteSession, node: Node, count: int) -> None:
    if count > node.gpu_count:
        await repository.add_devices(session, [(node.id, index) for index in range(node.gpu_count, count)])
    elif count < node.gpu_count:
        await repository.remove_devices(session, node.id, count)
    node.gpu_count = count


async def _evict(
    session: WriteSession,
    cluster: Cluster,
    node: Node,
    target: Size,
    occupants: Occupants,
    *,
    now: datetime,
    actor: str,
) -> None:
    await session.flush()
    table = await _allocations(session, cluster, node, now)
    victims = victims_to_shrink(table, target.cpu_milli, target.ram_mib, target.gpu_count, now.timestamp())
    await occupants.stop_attempts(
        session,
        victims,
        StopReason.DRAINED,
        sentence=f"its node {node.name} is being made smaller; it keeps its queue position",
        now=now,
        actor=actor,
    )


async def _allocations(session: WriteSession, cluster: Cluster, node: Node, now: datetime) -> AllocationTable:
    builder = SnapshotBuilder(now.timestamp())
    builder.add_node(node.id, cpu_milli=node.cpu_milli, ram_mib=node.ram_mib, gpu_count=node.gpu_count)
    for allocation, attempt, deployment in await repository.allocations_of_node(session, node.id):
        since = (attempt.started_at or attempt.created_at).timestamp()
        builder.add_allocation(
            allocation.attempt_id,
            deployment_id=deployment.id,
            node_id=node.id,
            cpu_milli=allocation.cpu_milli,
            ram_mib=allocation.ram_mib,
            gpu_indices=attempt.gpu_indices,
            gpu_each=attempt.gpu_milli_per_device or WHOLE_GPU,
            priority=deployment.priority,
            preemptible=deployment.preemptible,
            releasing=attempt.stop_requested_at is not None,
            started_at=since,
            protected_until=since + max(deployment.min_runtime_seconds, cluster.min_runtime_seconds),
        )
    return builder.build().allocations


def _too_small(node: Node, held: Held, target: Size, missing: Resources) -> Conflict:
    parts = []
    if missing.cpu_milli:
        parts.append(f"{missing.cpu_cores:g} cores")
    if missing.ram_mib:
        parts.append(f"{missing.ram_gb:g} GB of RAM")
    if missing.gpu_milli:
        beyond = ", ".join(str(index) for index in held.devices if index >= target.gpu_count)
        parts.append(f"{missing.gpu_count:g} GPU(s) (in use: index {beyond})")
    return Conflict(
        "shrink_below_allocated",
        f"{' and '.join(parts)} more than the new size are allocated on {node.name}. Stop work there, or use "
        "?force=true, which sends the least important work back to the queue.",
        extra={
            "shortfall": {
                "cpu_cores": missing.cpu_cores,
                "ram_gb": missing.ram_gb,
                "gpu_count": missing.gpu_count,
            }
        },
    )
