"""Who could yield on each node, and how much room that would make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.requests import Request
from hypervisor.scheduling.snapshot import Bool, Float64, Int64, Snapshot
from hypervisor.scheduling.victims import Candidate
from hypervisor.scheduling.work import lost_work
from hypervisor.scheduling.working import WorkingState

Amounts = tuple[Int64, Int64, Int64]


@dataclass(frozen=True, slots=True)
class PotentialRoom:
    """Room per node once everything is gone that a priority may evict, and releasing work as well."""

    cpu: Int64
    ram: Int64
    full: Int64
    widest: Int64

    def fits(self, request: Request) -> Bool:
        """Nodes on which the request would fit then."""
        fits: Bool = request.eligible & (self.cpu >= request.cpu) & (self.ram >= request.ram)
        if request.whole:
            fits &= self.full >= request.devices
        elif request.devices:
            fits &= self.widest >= request.each
        return fits


class Candidates:
    """The evictable allocations: preemptible, not releasing, past their minimum runtime, not yet taken."""

    def __init__(self, snapshot: Snapshot, state: WorkingState) -> None:
        table = snapshot.allocations
        self.table = table
        self._state = state
        self.lost: Float64 = lost_work(table, snapshot.now)
        self.evictable: Bool = table.preemptible & ~table.releasing & (table.protected_until <= snapshot.now)
        order = np.lexsort(
            (table.id, table.started_at, -self.lost, -table.priority.astype(np.int64), table.node)
        )
        self._order = order
        self._start = np.searchsorted(table.node[order], np.arange(len(state.nodes) + 1))
        self._on_node: dict[int, list[Candidate]] = {}
        self._sums: dict[int, Amounts] = {}
        self._rooms: dict[int, PotentialRoom] = {}
        self._rooms_at = 0

    def below(self, priority: int) -> Bool:
        """Mask of the rows that may be evicted for this priority."""
        return self.evictable & (self.table.priority < priority)

    def sums(self, priority: int) -> Amounts:
        """CPU and RAM per node, milli-GPU per node and device, that such evictions would free."""
        found = self._sums.get(priority)
        if found is None:
            found = self._sums[priority] = self._state.sums(self.table, self.below(priority))
        return found

    def room(self, priority: int) -> PotentialRoom:
        """The potential room for a priority, kept until any node changes."""
        state = self._state
        if self._rooms_at != len(state.touched):
            self._rooms.clear()
            self._rooms_at = len(state.touched)
        found = self._rooms.get(priority)
        if found is None:
            cpu, ram, gpu = self.sums(priority)
            gpu = state.free_gpu + state.coming_gpu + gpu
            found = self._rooms[priority] = PotentialRoom(
                state.free_cpu + state.coming_cpu + cpu,
                state.free_ram + state.coming_ram + ram,
                (gpu == WHOLE_GPU).sum(axis=1),
                gpu.max(axis=1),
            )
        return found

    def on(self, node: int) -> list[Candidate]:
        """Everything that runs on the node and is not releasing, the most important first."""
        found = self._on_node.get(node)
        if found is None:
            rows = self._order[self._start[node] : self._start[node + 1]].tolist()
            found = [self._candidate(row) for row in rows if not self.table.releasing[row]]
            self._on_node[node] = found
        return found

    def take(self, victim: Candidate, node: int) -> None:
        """Evict: the capacity is coming now, and this one cannot be taken twice."""
        self.evictable[victim.row] = False
        self._state.evict(node, victim.cpu, victim.ram, victim.devices, victim.each)
        for priority, (cpu, ram, gpu) in self._sums.items():
            if victim.priority < priority:
                cpu[node] -= victim.cpu
                ram[node] -= victim.ram
                for device in victim.devices:
                    gpu[node, device] -= victim.each

    def _candidate(self, row: int) -> Candidate:
        table = self.table
        mask = int(table.gpu_mask[row])
        return Candidate(
            row=row,
            id=int(table.id[row]),
            priority=int(table.priority[row]),
            lost=float(self.lost[row]),
            started_at=float(table.started_at[row]),
            cpu=int(table.cpu_milli[row]),
            ram=int(table.ram_mib[row]),
            devices=tuple(i for i in range(self._state.width) if mask >> i & 1),
            each=int(table.gpu_each[row]),
        )
