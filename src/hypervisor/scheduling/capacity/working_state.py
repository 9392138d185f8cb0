"""The capacity of a cluster during planning: a mutable copy of the snapshot's capacity.

Each node has two layers. Idle capacity can be used at once. Releasing capacity belongs to allocations that
are stopping; it becomes idle when their end is observed. A nomination claims idle capacity first and
releasing capacity for the rest, so later deployments get neither. During a pass capacity only shrinks, except
when a nomination is withdrawn. Caches rely on that; `generation` rises when it happens.

`dirty_log` lists the changed nodes, `change_counts` has the number of changes per node. `whole_gpus` and
`largest_fraction` sum up the devices of a node: how many are idle as a whole, and the most idle milli-GPU on
one. `later_whole_gpus` and `later_largest_fraction` are the same with releasing capacity added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, Bool, Int64, Snapshot


@dataclass(slots=True)
class Claim:
    """What a nomination claims on one node: the idle part and the releasing part."""

    node: int
    idle_cpu: int
    idle_ram: int
    releasing_cpu: int
    releasing_ram: int
    devices: tuple[int, ...]
    idle_gpu: tuple[int, ...]
    releasing_gpu: tuple[int, ...]


class WorkingState:
    """Capacity per node as arrays: milli-CPU, MiB, and milli-GPU per device. Absent devices have 0."""

    def __init__(self, snapshot: Snapshot) -> None:
        nodes, allocations = snapshot.nodes, snapshot.allocations
        self.nodes = nodes
        self.width = max(1, int(nodes.gpu_count.max(initial=0)))
        self.device_exists = np.arange(self.width) < nodes.gpu_count[:, None]
        self.devices_in_use = devices_in_use(allocations, self.width)
        used_cpu, used_ram, used_gpu = self.usage_of(allocations)
        self.idle_cpu: Int64 = nodes.cpu_milli - used_cpu
        self.idle_ram: Int64 = nodes.ram_mib - used_ram
        self.idle_gpu: Int64 = np.where(self.device_exists, WHOLE_GPU - used_gpu, 0)
        self.releasing_cpu, self.releasing_ram, self.releasing_gpu = self.usage_of(
            allocations, allocations.releasing
        )
        self.has_releasing = bool(allocations.releasing.any())
        self.whole_gpus: Int64 = (self.idle_gpu == WHOLE_GPU).sum(axis=1)
        self.largest_fraction: Int64 = self.idle_gpu.max(axis=1, initial=0)
        later = self.idle_gpu + self.releasing_gpu
        self.later_whole_gpus: Int64 = (later == WHOLE_GPU).sum(axis=1)
        self.later_largest_fraction: Int64 = later.max(axis=1, initial=0)
        self.dirty_log: list[int] = []
        self.change_counts = [0] * len(nodes)
        self.generation = 0

    def usage_of(
        self, allocations: AllocationTable, chosen: Bool | None = None
    ) -> tuple[Int64, Int64, Int64]:
        """The use by the chosen allocations, or by all: per node, and per node and device."""
        count = len(self.nodes)
        if chosen is not None and not chosen.any():
            return (
                np.zeros(count, np.int64),
                np.zeros(count, np.int64),
                np.zeros(self.device_exists.shape, np.int64),
            )
        row, device = self.devices_in_use
        if chosen is None:
            chosen = np.ones(len(allocations), np.bool_)
        else:
            picked = chosen[row]
            row, device = row[picked], device[picked]
        rows = allocations.node[chosen]
        cpu = np.bincount(rows, allocations.cpu_milli[chosen], count).astype(np.int64)
        ram = np.bincount(rows, allocations.ram_mib[chosen], count).astype(np.int64)
        flat = allocations.node[row].astype(np.int64) * self.width + device
        held = np.bincount(flat, allocations.gpu_milli_per_device[row], count * self.width).astype(np.int64)
        return cpu, ram, np.where(self.device_exists, held.reshape(count, self.width), 0)

    def place(self, node: int, request: Request, devices: tuple[int, ...]) -> None:
        """Use idle capacity."""
        self.idle_cpu[node] -= request.cpu
        self.idle_ram[node] -= request.ram
        if devices:
            for device in devices:
                self.idle_gpu[node, device] -= request.milli_per_device
            self._recount(node)
        self._mark_dirty(node)

    def unplace(self, node: int, request: Request, devices: tuple[int, ...]) -> None:
        """Undo `place`; call `invalidate` unless the same amount is used again at once."""
        self.idle_cpu[node] += request.cpu
        self.idle_ram[node] += request.ram
        for device in devices:
            self.idle_gpu[node, device] += request.milli_per_device
        self._recount(node)
        self._mark_dirty(node)

    def claim(self, node: int, request: Request, devices: tuple[int, ...]) -> Claim:
        """Claim capacity for a nomination: idle capacity first, releasing capacity for the rest."""
        free_cpu = min(max(int(self.idle_cpu[node]), 0), request.cpu)
        free_ram = min(max(int(self.idle_ram[node]), 0), request.ram)
        free_gpu = tuple(min(max(int(self.idle_gpu[node, i]), 0), request.milli_per_device) for i in devices)
        claim = Claim(
            node=node,
            idle_cpu=free_cpu,
            idle_ram=free_ram,
            releasing_cpu=request.cpu - free_cpu,
            releasing_ram=request.ram - free_ram,
            devices=devices,
            idle_gpu=free_gpu,
            releasing_gpu=tuple(request.milli_per_device - taken for taken in free_gpu),
        )
        self._apply(claim, -1)
        return claim

    def release_claim(self, claim: Claim) -> None:
        """Release a claim; call `invalidate` unless the same amount is claimed again at once."""
        self._apply(claim, 1)

    def invalidate(self) -> None:
        """Note that capacity has grown: requests that did not fit may fit now."""
        self.generation += 1

    def mark_releasing(self, node: int, cpu: int, ram: int, devices: tuple[int, ...], each: int) -> None:
        """Count the capacity of an evicted allocation as releasing; negative amounts undo that."""
        self.releasing_cpu[node] += cpu
        self.releasing_ram[node] += ram
        for device in devices:
            self.releasing_gpu[node, device] += each
        self.has_releasing = True
        self._recount(node)
        self._mark_dirty(node)

    def _apply(self, claim: Claim, sign: int) -> None:
        node = claim.node
        self.idle_cpu[node] += sign * claim.idle_cpu
        self.idle_ram[node] += sign * claim.idle_ram
        self.releasing_cpu[node] += sign * claim.releasing_cpu
        self.releasing_ram[node] += sign * claim.releasing_ram
        for device, free, releasing in zip(claim.devices, claim.idle_gpu, claim.releasing_gpu, strict=True):
            self.idle_gpu[node, device] += sign * free
            self.releasing_gpu[node, device] += sign * releasing
        self._recount(node)
        self._mark_dirty(node)

    def _mark_dirty(self, node: int) -> None:
        self.dirty_log.append(node)
        self.change_counts[node] += 1

    def _recount(self, node: int) -> None:
        free = self.idle_gpu[node].tolist()
        self.whole_gpus[node] = free.count(WHOLE_GPU)
        self.largest_fraction[node] = max(free)
        if self.has_releasing:
            free = (self.idle_gpu[node] + self.releasing_gpu[node]).tolist()
        self.later_whole_gpus[node] = free.count(WHOLE_GPU)
        self.later_largest_fraction[node] = max(free)


def devices_in_use(allocations: AllocationTable, width: int) -> tuple[Int64, Int64]:
    """Pairs (allocation row, device index) for every device in use, without devices beyond `width`."""
    shifts = np.arange(width, dtype=np.uint64)
    bits = (allocations.gpu_mask[:, None] >> shifts) & np.uint64(1)
    row, device = np.nonzero(bits)
    return row.astype(np.int64), device.astype(np.int64)
