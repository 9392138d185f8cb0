"""What is free while a plan is being made: the mutable copy of the snapshot's capacity.

Two layers per node. `free` can be used at once; `coming` is held by allocations that have been asked to
stop, and will be free when their end was observed. Nominations claim from `free` first and from `coming`
for the rest, so whoever comes later sees neither. During a pass capacity only shrinks, except when a
nomination is given up; caches rely on that and are told by `generation`. `touched` is the log of changed
nodes, `changes` their number per node; `full` and `widest` sum up the free devices of a node (how many are
whole, the most free milli-GPU on one), `later_full` and `later_widest` the same with what is coming.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, Bool, Int64, Snapshot


@dataclass(slots=True)
class Claim:
    """What a nomination took of one node: the parts that were free, and the parts still to come."""

    node: int
    free_cpu: int
    free_ram: int
    coming_cpu: int
    coming_ram: int
    devices: tuple[int, ...]
    free_gpu: tuple[int, ...]
    coming_gpu: tuple[int, ...]


class WorkingState:
    """Capacity per node as arrays: milli-CPU, MiB, and milli-GPU per device (absent devices have 0)."""

    def __init__(self, snapshot: Snapshot) -> None:
        nodes, allocations = snapshot.nodes, snapshot.allocations
        self.nodes = nodes
        self.width = max(1, int(nodes.gpu_count.max(initial=0)))
        self.exists = np.arange(self.width) < nodes.gpu_count[:, None]
        self.claims = devices_in_use(allocations, self.width)
        used_cpu, used_ram, used_gpu = self.sums(allocations)
        self.free_cpu: Int64 = nodes.cpu_milli - used_cpu
        self.free_ram: Int64 = nodes.ram_mib - used_ram
        self.free_gpu: Int64 = np.where(self.exists, WHOLE_GPU - used_gpu, 0)
        self.coming_cpu, self.coming_ram, self.coming_gpu = self.sums(allocations, allocations.releasing)
        self.anything_coming = bool(allocations.releasing.any())
        self.full: Int64 = (self.free_gpu == WHOLE_GPU).sum(axis=1)
        self.widest: Int64 = self.free_gpu.max(axis=1, initial=0)
        later = self.free_gpu + self.coming_gpu
        self.later_full: Int64 = (later == WHOLE_GPU).sum(axis=1)
        self.later_widest: Int64 = later.max(axis=1, initial=0)
        self.touched: list[int] = []
        self.changes = [0] * len(nodes)
        self.generation = 0

    def sums(self, allocations: AllocationTable, chosen: Bool | None = None) -> tuple[Int64, Int64, Int64]:
        """What the chosen allocations (without `chosen` all) hold per node, and per node and device."""
        count = len(self.nodes)
        if chosen is not None and not chosen.any():
            return np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(self.exists.shape, np.int64)
        row, device = self.claims
        if chosen is None:
            chosen = np.ones(len(allocations), np.bool_)
        else:
            picked = chosen[row]
            row, device = row[picked], device[picked]
        rows = allocations.node[chosen]
        cpu = np.bincount(rows, allocations.cpu_milli[chosen], count).astype(np.int64)
        ram = np.bincount(rows, allocations.ram_mib[chosen], count).astype(np.int64)
        flat = allocations.node[row].astype(np.int64) * self.width + device
        held = np.bincount(flat, allocations.gpu_each[row], count * self.width).astype(np.int64)
        return cpu, ram, np.where(self.exists, held.reshape(count, self.width), 0)

    def place(self, node: int, request: Request, devices: tuple[int, ...]) -> None:
        """Use free capacity now."""
        self.free_cpu[node] -= request.cpu
        self.free_ram[node] -= request.ram
        if devices:
            for device in devices:
                self.free_gpu[node, device] -= request.each
            self._recount(node)
        self._touch(node)

    def take_back(self, node: int, request: Request, devices: tuple[int, ...]) -> None:
        """Undo `place`; call `grew` unless as much is used again at once."""
        self.free_cpu[node] += request.cpu
        self.free_ram[node] += request.ram
        for device in devices:
            self.free_gpu[node, device] += request.each
        self._recount(node)
        self._touch(node)

    def reserve(self, node: int, request: Request, devices: tuple[int, ...]) -> Claim:
        """Keep capacity for a nomination: what is free first, the rest of what is coming."""
        free_cpu = min(max(int(self.free_cpu[node]), 0), request.cpu)
        free_ram = min(max(int(self.free_ram[node]), 0), request.ram)
        free_gpu = tuple(min(max(int(self.free_gpu[node, i]), 0), request.each) for i in devices)
        claim = Claim(
            node=node,
            free_cpu=free_cpu,
            free_ram=free_ram,
            coming_cpu=request.cpu - free_cpu,
            coming_ram=request.ram - free_ram,
            devices=devices,
            free_gpu=free_gpu,
            coming_gpu=tuple(request.each - taken for taken in free_gpu),
        )
        self._apply(claim, -1)
        return claim

    def release(self, claim: Claim) -> None:
        """Give back what a nomination kept; call `grew` unless the same is taken again at once."""
        self._apply(claim, 1)

    def grew(self) -> None:
        """Capacity has grown: what did not fit before may fit now. Only a lost nomination does that."""
        self.generation += 1

    def evict(self, node: int, cpu: int, ram: int, devices: tuple[int, ...], each: int) -> None:
        """Count an evicted allocation's capacity as coming; negative amounts take that back."""
        self.coming_cpu[node] += cpu
        self.coming_ram[node] += ram
        for device in devices:
            self.coming_gpu[node, device] += each
        self.anything_coming = True
        self._recount(node)
        self._touch(node)

    def _apply(self, claim: Claim, sign: int) -> None:
        node = claim.node
        self.free_cpu[node] += sign * claim.free_cpu
        self.free_ram[node] += sign * claim.free_ram
        self.coming_cpu[node] += sign * claim.coming_cpu
        self.coming_ram[node] += sign * claim.coming_ram
        for device, free, coming in zip(claim.devices, claim.free_gpu, claim.coming_gpu, strict=True):
            self.free_gpu[node, device] += sign * free
            self.coming_gpu[node, device] += sign * coming
        self._recount(node)
        self._touch(node)

    def _touch(self, node: int) -> None:
        self.touched.append(node)
        self.changes[node] += 1

    def _recount(self, node: int) -> None:
        free = self.free_gpu[node].tolist()
        self.full[node] = free.count(WHOLE_GPU)
        self.widest[node] = max(free)
        if self.anything_coming:
            free = (self.free_gpu[node] + self.coming_gpu[node]).tolist()
        self.later_full[node] = free.count(WHOLE_GPU)
        self.later_widest[node] = max(free)


def devices_in_use(allocations: AllocationTable, width: int) -> tuple[Int64, Int64]:
    """Pairs (allocation row, device index) for every device in use, devices beyond `width` left out."""
    shifts = np.arange(width, dtype=np.uint64)
    bits = (allocations.gpu_mask[:, None] >> shifts) & np.uint64(1)
    row, device = np.nonzero(bits)
    return row.astype(np.int64), device.astype(np.int64)
