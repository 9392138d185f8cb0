"""The allocations that may be evicted, by node, and the capacity that evictions free."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.sorting import sorted_rows
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.preemption.cost import lost_work
from hypervisor.scheduling.preemption.eviction_groups import EvictionGroup, merge_candidates, rows_by_gang
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Float64, Int64, Snapshot

Amounts = tuple[Int64, Int64, Int64]


@dataclass(frozen=True, slots=True)
class PreemptibleCapacity:
    """Capacity per node, without releasing work and without everything that a priority may evict."""

    cpu: Int64
    ram: Int64
    whole_gpus: Int64
    largest_fraction: Int64

    def fits(self, request: Request) -> Bool:
        """The nodes on which the request would fit."""
        fits: Bool = request.eligible & (self.cpu >= request.cpu) & (self.ram >= request.ram)
        if request.whole_devices:
            fits &= self.whole_gpus >= request.device_count
        elif request.device_count:
            fits &= self.largest_fraction >= request.milli_per_device
        return fits


class EvictionCandidates:
    """Evictable allocations: preemptible, not releasing, past their minimum runtime, not evicted yet.

    `lost_work` is per row. `evictable` and `evicting` are masks over the rows; `evicting` includes releasing
    rows. `gangs` maps each row of a gang to all of its rows.
    """

    def __init__(self, snapshot: Snapshot, capacity: WorkingState) -> None:
        table = snapshot.allocations
        self.table = table
        self._capacity = capacity
        self.lost_work: Float64 = lost_work(table, snapshot.now)
        self.gangs = rows_by_gang(table)
        self.evictable: Bool = table.preemptible & ~table.releasing & (table.protected_until <= snapshot.now)
        for rows in set(self.gangs.values()):
            self.evictable[list(rows)] = self.evictable[list(rows)].all()
        self.evicting: Bool = table.releasing.copy()
        self._lower: dict[int, Bool] = {}
        self._on_node: dict[int, list[EvictionCandidate]] = {}
        self._freed: dict[int, Amounts] = {}
        self._capacities: dict[int, PreemptibleCapacity] = {}
        self._capacities_at = 0

    def lower_than(self, priority: int) -> Bool:
        """A mask of the rows that this priority may evict. The caller may change it."""
        return self._lower_mask(priority).copy()

    def any_lower_than(self, priority: int) -> bool:
        """Whether this priority may evict anything at all."""
        return bool(self._lower_mask(priority).any())

    def _lower_mask(self, priority: int) -> Bool:
        found = self._lower.get(priority)
        if found is None:
            found = self._lower[priority] = self.evictable & (self.table.priority < priority)
        return found

    def freed_by(self, priority: int) -> Amounts:
        """What this priority can free: CPU and RAM per node, milli-GPU per node and device."""
        found = self._freed.get(priority)
        if found is None:
            found = self._freed[priority] = self._capacity.usage_of(self.table, self.lower_than(priority))
        return found

    def preemptible_capacity(self, priority: int) -> PreemptibleCapacity:
        """The capacity for a priority; cached until any node changes."""
        capacity = self._capacity
        if self._capacities_at != len(capacity.dirty_log):
            self._capacities.clear()
            self._capacities_at = len(capacity.dirty_log)
        found = self._capacities.get(priority)
        if found is None:
            cpu, ram, gpu = self.freed_by(priority)
            gpu = capacity.idle_gpu + capacity.releasing_gpu + gpu
            found = self._capacities[priority] = PreemptibleCapacity(
                capacity.idle_cpu + capacity.releasing_cpu + cpu,
                capacity.idle_ram + capacity.releasing_ram + ram,
                (gpu == WHOLE_GPU).sum(axis=1),
                gpu.max(axis=1),
            )
        return found

    def on_node(self, node: int) -> list[EvictionCandidate]:
        """Everything on the node that is not releasing, the most important first."""
        found = self._on_node.get(node)
        if found is None:
            order, start = self._by_importance
            rows = order[start[node] : start[node + 1]].tolist()
            found = [self._candidate(row) for row in rows if not self.table.releasing[row]]
            if self.gangs:
                found = self._merge_gangs(found)
            self._on_node[node] = found
        return found

    @cached_property
    def _by_importance(self) -> tuple[Int64, Int64]:
        """The rows node by node, the most important first, and the index at which each node begins."""
        table = self.table
        order = sorted_rows(
            table.node, -table.priority.astype(np.int64), -self.lost_work, table.started_at, table.id
        )
        return order, np.searchsorted(table.node[order], np.arange(len(self._capacity.nodes) + 1))

    def evict(self, victim: EvictionCandidate) -> list[int]:
        """Evict the victim (all of a gang): its capacity becomes releasing.

        Returns the rows of its allocations.
        """
        rows = self.gangs.get(victim.row)
        if rows is None:
            self._set_evicting(victim, int(self.table.node[victim.row]), evicting=True)
            return [victim.row]
        for row in rows:
            self._set_evicting(self._candidate(row), int(self.table.node[row]), evicting=True)
        # Pending deployments may fit its other nodes now.
        self._capacity.invalidate()
        return list(rows)

    def restore(self, victim: EvictionCandidate) -> None:
        """Undo `evict`."""
        for row in self.gangs.get(victim.row, (victim.row,)):
            self._set_evicting(self._candidate(row), int(self.table.node[row]), evicting=False)

    def _set_evicting(self, victim: EvictionCandidate, node: int, *, evicting: bool) -> None:
        self.evictable[victim.row] = not evicting
        self.evicting[victim.row] = evicting
        self._lower.clear()
        sign = 1 if evicting else -1
        self._capacity.mark_releasing(
            node, sign * victim.cpu, sign * victim.ram, victim.devices, sign * victim.milli_per_device
        )
        for priority, (cpu, ram, gpu) in self._freed.items():
            if victim.priority < priority:
                cpu[node] -= sign * victim.cpu
                ram[node] -= sign * victim.ram
                for device in victim.devices:
                    gpu[node, device] -= sign * victim.milli_per_device

    def groups(self, chosen: Bool) -> list[EvictionGroup]:
        """The groups that the chosen rows belong to; each is complete, even if only some rows are chosen."""
        found = []
        done: set[int] = set()
        for row in np.flatnonzero(chosen).tolist():
            deployment_id = int(self.table.deployment_id[row])
            if deployment_id in done:
                continue
            done.add(deployment_id)
            found.append(self._group(row))
        return found

    def group_of(self, candidate: EvictionCandidate) -> EvictionGroup:
        """The group of the candidate."""
        if candidate.row in self.gangs:
            return self._group(candidate.row)
        row = candidate.row
        return EvictionGroup(int(self.table.deployment_id[row]), ((int(self.table.node[row]), candidate),))

    def _group(self, row: int) -> EvictionGroup:
        deployment_id = int(self.table.deployment_id[row])
        nodes = sorted({int(self.table.node[each]) for each in self.gangs.get(row, (row,))})
        return EvictionGroup(deployment_id, tuple((node, self._part(node, deployment_id)) for node in nodes))

    def _part(self, node: int, deployment_id: int) -> EvictionCandidate:
        ids = self.table.deployment_id
        return next(item for item in self.on_node(node) if ids[item.row] == deployment_id)

    def _merge_gangs(self, found: list[EvictionCandidate]) -> list[EvictionCandidate]:
        """The candidates of a node, with those of one gang merged into one."""
        alone = [item for item in found if item.row not in self.gangs]
        together: dict[tuple[int, ...], list[EvictionCandidate]] = {}
        for item in found:
            if item.row in self.gangs:
                together.setdefault(self.gangs[item.row], []).append(item)
        for rows, parts in together.items():
            lost, started_at = float(self.lost_work[list(rows)].sum()), float(self.table.started_at[rows[0]])
            alone.append(merge_candidates(parts, lost, started_at))
        return sorted(alone, key=lambda item: item.importance)

    def _candidate(self, row: int) -> EvictionCandidate:
        table = self.table
        mask = int(table.gpu_mask[row])
        return EvictionCandidate(
            row=row,
            id=int(table.id[row]),
            priority=int(table.priority[row]),
            lost_work=float(self.lost_work[row]),
            started_at=float(table.started_at[row]),
            cpu=int(table.cpu_milli[row]),
            ram=int(table.ram_mib[row]),
            devices=tuple(i for i in range(self._capacity.width) if mask >> i & 1),
            milli_per_device=int(table.gpu_milli_per_device[row]),
        )
