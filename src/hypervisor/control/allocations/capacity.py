"""Allocation and release of capacity under the locks that make double allocation impossible.

The node rows are locked in id order, their use is summed again from the allocations (never read from a
counter), and only then is anything allocated. The counters on nodes and GPUs change in the same transaction;
their CHECK constraints are the last line of defence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sqlalchemy import BindParameter, bindparam, delete, func, select

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Allocation, Attempt, Deployment, GpuClaim, Node, NodeGpu


@dataclass(slots=True)
class NodeCapacity:
    """A locked node and its use, summed from the rows. `gpus` has the used milli-GPU by GPU index."""

    node: Node
    cpu_milli: int = 0
    ram_mib: int = 0
    gpus: dict[int, int] = field(default_factory=dict)
    gpu_rows: dict[int, NodeGpu] = field(default_factory=dict)

    @property
    def schedulable(self) -> bool:
        return not (self.node.cordoned or self.node.draining or self.node.deleting)

    def misfit(self, deployment: Deployment, gpu_indices: Iterable[int]) -> str | None:
        """The resource that lacks capacity for this deployment on these GPUs, or None if it fits."""
        node = self.node
        if self.cpu_milli + deployment.cpu_milli > _limit(node.cpu_milli, node.target_cpu_milli):
            return "cpu"
        if self.ram_mib + deployment.ram_mib > _limit(node.ram_mib, node.target_ram_mib):
            return "ram"
        milli_per_gpu = min(deployment.gpu_milli, WHOLE_GPU)
        gpu_limit = _limit(node.gpu_count, node.target_gpu_count)
        for index in gpu_indices:
            if index >= gpu_limit or self.gpus.get(index, 0) + milli_per_gpu > WHOLE_GPU:
                return "gpu"
        return None


async def lock_nodes(session: WriteSession, node_ids: Collection[int]) -> dict[int, NodeCapacity]:
    """Lock nodes in id order (`FOR NO KEY UPDATE`) and sum the use of each."""
    capacities: dict[int, NodeCapacity] = {}
    for chunk in chunks(sorted(node_ids)):
        locked = await session.scalars(_LOCKED, {"ids": chunk})
        capacities.update((node.id, NodeCapacity(node)) for node in locked)
        await _sum_up(session, capacities, chunk)
    return capacities


async def _sum_up(
    session: WriteSession, capacities: dict[int, NodeCapacity], node_ids: Collection[int]
) -> None:
    for node_id, cpu, ram in await session.execute(_HELD, {"ids": node_ids}):
        capacities[node_id].cpu_milli, capacities[node_id].ram_mib = int(cpu), int(ram)
    with_gpus = [
        node_id for node_id in node_ids if node_id in capacities and capacities[node_id].node.gpu_count
    ]
    if not with_gpus:
        return
    for node_id, index, milli in await session.execute(_CLAIMED, {"ids": with_gpus}):
        capacities[node_id].gpus[index] = int(milli)
    for gpu in await session.scalars(_GPUS, {"ids": with_gpus}):
        capacities[gpu.node_id].gpu_rows[gpu.gpu_index] = gpu


# Built once: every placement and every end of an attempt runs these.
_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_LOCKED = (
    select(Node)
    .where(Node.id.in_(_IDS))
    .order_by(Node.id)
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)
_HELD = (
    select(Allocation.node_id, func.sum(Allocation.cpu_milli), func.sum(Allocation.ram_mib))
    .where(Allocation.node_id.in_(_IDS))
    .group_by(Allocation.node_id)
)
_CLAIMED = (
    select(GpuClaim.node_id, GpuClaim.gpu_index, func.sum(GpuClaim.milli))
    .where(GpuClaim.node_id.in_(_IDS))
    .group_by(GpuClaim.node_id, GpuClaim.gpu_index)
)
_GPUS = select(NodeGpu).where(NodeGpu.node_id.in_(_IDS))


def allocate(session: WriteSession, capacity: NodeCapacity, deployment: Deployment, attempt: Attempt) -> None:
    """Insert the allocation and GPU claims of a flushed attempt. The caller has checked `misfit`."""
    session.add(
        Allocation(
            attempt_id=attempt.id,
            deployment_id=deployment.id,
            cluster_id=attempt.cluster_id,
            node_id=capacity.node.id,
            cpu_milli=deployment.cpu_milli,
            ram_mib=deployment.ram_mib,
            gpu_milli=deployment.gpu_milli,
        )
    )
    for index in attempt.gpu_indices:
        session.add(
            GpuClaim(
                attempt_id=attempt.id,
                gpu_index=index,
                node_id=capacity.node.id,
                milli=attempt.gpu_milli_per_device,
            )
        )


def reserve(capacity: NodeCapacity, deployment: Deployment, gpu_indices: Iterable[int]) -> None:
    """Add a placement to the use of the node and to the counters of its rows."""
    _count(capacity, deployment, gpu_indices, 1)


def unreserve(capacity: NodeCapacity, deployment: Deployment, gpu_indices: Iterable[int]) -> None:
    """Undo a `reserve`."""
    _count(capacity, deployment, gpu_indices, -1)


def _count(capacity: NodeCapacity, deployment: Deployment, gpu_indices: Iterable[int], sign: int) -> None:
    milli_per_gpu = min(deployment.gpu_milli, WHOLE_GPU)
    capacity.cpu_milli += sign * deployment.cpu_milli
    capacity.ram_mib += sign * deployment.ram_mib
    for index in gpu_indices:
        capacity.gpus[index] = capacity.gpus.get(index, 0) + sign * milli_per_gpu
    _write_counters(capacity)


async def release(session: WriteSession, attempts: Collection[Attempt]) -> None:
    """Free the capacity of attempts whose end was observed, then finish pending shrinks of their nodes."""
    node_ids = {attempt.node_id for attempt in attempts if attempt.node_id is not None}
    await session.flush()
    for chunk in chunks(sorted(attempt.id for attempt in attempts)):
        for held in (GpuClaim, Allocation):
            await session.execute(
                delete(held).where(held.attempt_id.in_(chunk)).execution_options(synchronize_session=False)
            )
    for capacity in (await lock_nodes(session, node_ids)).values():
        _write_counters(capacity)
        await _finish_shrink(session, capacity)


def _write_counters(capacity: NodeCapacity) -> None:
    capacity.node.used_cpu_milli = capacity.cpu_milli
    capacity.node.used_ram_mib = capacity.ram_mib
    for index, gpu in capacity.gpu_rows.items():
        gpu.used_milli = capacity.gpus.get(index, 0)


async def _finish_shrink(session: WriteSession, capacity: NodeCapacity) -> None:
    """Apply a forced shrink of the node as soon as its use fits the new size."""
    node = capacity.node
    if node.target_cpu_milli is None and node.target_ram_mib is None and node.target_gpu_count is None:
        return
    cpu = _limit(node.cpu_milli, node.target_cpu_milli)
    ram = _limit(node.ram_mib, node.target_ram_mib)
    gpus = _limit(node.gpu_count, node.target_gpu_count)
    if capacity.cpu_milli > cpu or capacity.ram_mib > ram or any(index >= gpus for index in capacity.gpus):
        return
    node.cpu_milli, node.ram_mib, node.gpu_count = cpu, ram, gpus
    node.target_cpu_milli = node.target_ram_mib = node.target_gpu_count = None
    await session.flush()
    for index in [index for index in capacity.gpu_rows if index >= gpus]:
        await session.delete(capacity.gpu_rows.pop(index))


def _limit(capacity: int, target: int | None) -> int:
    return capacity if target is None else min(capacity, target)
