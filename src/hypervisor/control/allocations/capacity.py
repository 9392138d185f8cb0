"""Claiming and releasing capacity under the locks that make double allocation impossible.

Node rows are locked in id order, what is held is summed again from the allocations (never read from a
counter), and only then is anything claimed. The counters on nodes and GPUs move in the same transaction; the
CHECKs on them are the last line of defence.
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
    """A locked node and what is held on it, as summed from the rows."""

    node: Node
    cpu_milli: int = 0
    ram_mib: int = 0
    gpus: dict[int, int] = field(default_factory=dict)
    gpu_rows: dict[int, NodeGpu] = field(default_factory=dict)

    @property
    def schedulable(self) -> bool:
        return not (self.node.cordoned or self.node.draining or self.node.deleting)

    def misfit(self, deployment: Deployment, gpu_indices: Iterable[int]) -> str | None:
        """Why this deployment does not fit with these GPUs now, or None where it does."""
        node = self.node
        if self.cpu_milli + deployment.cpu_milli > _limit(node.cpu_milli, node.target_cpu_milli):
            return "cpu"
        if self.ram_mib + deployment.ram_mib > _limit(node.ram_mib, node.target_ram_mib):
            return "ram"
        each = min(deployment.gpu_milli, WHOLE_GPU)
        last = _limit(node.gpu_count, node.target_gpu_count)
        for index in gpu_indices:
            if index >= last or self.gpus.get(index, 0) + each > WHOLE_GPU:
                return "gpu"
        return None


async def lock_nodes(session: WriteSession, node_ids: Collection[int]) -> dict[int, NodeCapacity]:
    """Lock nodes in id order (`FOR NO KEY UPDATE`) and sum what is held on each."""
    rooms: dict[int, NodeCapacity] = {}
    for chunk in chunks(sorted(node_ids)):
        locked = await session.scalars(_LOCKED, {"ids": chunk})
        rooms.update((node.id, NodeCapacity(node)) for node in locked)
        await _sum_up(session, rooms, chunk)
    return rooms


async def _sum_up(session: WriteSession, rooms: dict[int, NodeCapacity], node_ids: Collection[int]) -> None:
    for node_id, cpu, ram in await session.execute(_HELD, {"ids": node_ids}):
        rooms[node_id].cpu_milli, rooms[node_id].ram_mib = int(cpu), int(ram)
    with_gpus = [node_id for node_id in node_ids if node_id in rooms and rooms[node_id].node.gpu_count]
    if not with_gpus:
        return
    for node_id, index, milli in await session.execute(_CLAIMED, {"ids": with_gpus}):
        rooms[node_id].gpus[index] = int(milli)
    for gpu in await session.scalars(_GPUS, {"ids": with_gpus}):
        rooms[gpu.node_id].gpu_rows[gpu.gpu_index] = gpu


# Built once: every placement and every end asks these.
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


def allocate(session: WriteSession, room: NodeCapacity, deployment: Deployment, attempt: Attempt) -> None:
    """Give an attempt (already flushed) its capacity. The caller has checked `misfit`."""
    session.add(
        Allocation(
            attempt_id=attempt.id,
            deployment_id=deployment.id,
            cluster_id=attempt.cluster_id,
            node_id=room.node.id,
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
                node_id=room.node.id,
                milli=attempt.gpu_milli_per_device,
            )
        )


def reserve(room: NodeCapacity, deployment: Deployment, gpu_indices: Iterable[int]) -> None:
    """Count a claim in the room and in the counters of the node's rows."""
    _count(room, deployment, gpu_indices, 1)


def restore(room: NodeCapacity, deployment: Deployment, gpu_indices: Iterable[int]) -> None:
    """Take back a `reserve` that was not claimed."""
    _count(room, deployment, gpu_indices, -1)


def _count(room: NodeCapacity, deployment: Deployment, gpu_indices: Iterable[int], sign: int) -> None:
    each = min(deployment.gpu_milli, WHOLE_GPU)
    room.cpu_milli += sign * deployment.cpu_milli
    room.ram_mib += sign * deployment.ram_mib
    for index in gpu_indices:
        room.gpus[index] = room.gpus.get(index, 0) + sign * each
    _write_counters(room)


async def release(session: WriteSession, attempts: Collection[Attempt]) -> None:
    """Free what these attempts hold, as their end was observed; a pending shrink of a node goes on."""
    node_ids = {attempt.node_id for attempt in attempts if attempt.node_id is not None}
    await session.flush()
    for chunk in chunks(sorted(attempt.id for attempt in attempts)):
        for held in (GpuClaim, Allocation):
            await session.execute(
                delete(held).where(held.attempt_id.in_(chunk)).execution_options(synchronize_session=False)
            )
    for room in (await lock_nodes(session, node_ids)).values():
        _write_counters(room)
        await _finish_shrink(session, room)


def _write_counters(room: NodeCapacity) -> None:
    room.node.used_cpu_milli = room.cpu_milli
    room.node.used_ram_mib = room.ram_mib
    for index, gpu in room.gpu_rows.items():
        gpu.used_milli = room.gpus.get(index, 0)


async def _finish_shrink(session: WriteSession, room: NodeCapacity) -> None:
    """Apply a forced shrink as soon as what is held fits the new size."""
    node = room.node
    if node.target_cpu_milli is None and node.target_ram_mib is None and node.target_gpu_count is None:
        return
    cpu = _limit(node.cpu_milli, node.target_cpu_milli)
    ram = _limit(node.ram_mib, node.target_ram_mib)
    gpus = _limit(node.gpu_count, node.target_gpu_count)
    if room.cpu_milli > cpu or room.ram_mib > ram or any(index >= gpus for index in room.gpus):
        return
    node.cpu_milli, node.ram_mib, node.gpu_count = cpu, ram, gpus
    node.target_cpu_milli = node.target_ram_mib = node.target_gpu_count = None
    await session.flush()
    for index in [index for index in room.gpu_rows if index >= gpus]:
        await session.delete(room.gpu_rows.pop(index))


def _limit(capacity: int, target: int | None) -> int:
    return capacity if target is None else min(capacity, target)
