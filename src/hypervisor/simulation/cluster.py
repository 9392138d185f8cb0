"""The simulated cluster: allocations, free capacity, and evictable capacity by priority."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.replicas import replicas_per_node
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, NodeTable
from hypervisor.simulation.cluster_load import FreeCapacity
from hypervisor.simulation.columns import allocation_columns
from hypervisor.simulation.errors import SimulationError
from hypervisor.simulation.jobs import Attempt, ReplicaPlacement
from hypervisor.simulation.pending_queue import EquivalenceClass

_MOST_CLASSES = 64
_MOST_PRIORITIES = 16
"""Above these numbers `may_admit` returns True without a check."""


class Cluster:
    """The allocation table of the snapshot, updated at every start and end.

    `attempts` has the attempts that hold capacity, by job id. A job has at most one.
    """

    def __init__(self, nodes: NodeTable) -> None:
        self.nodes = nodes
        self.releasing = 0
        self.attempts: dict[int, Attempt] = {}
        self._width = max(1, int(nodes.gpu_count.max(initial=0)))
        exists = np.arange(self._width) < nodes.gpu_count[:, None]
        self.free = FreeCapacity(
            nodes.cpu_milli.copy(), nodes.ram_mib.copy(), np.where(exists, WHOLE_GPU, 0).astype(np.int64)
        )
        self._evictable: dict[int, FreeCapacity] = {}
        self._eligibility = Eligibility(nodes)
        self._columns = allocation_columns()

    def table(self) -> AllocationTable:
        """The allocation table of the snapshot, valid until the next change."""
        return AllocationTable(**self._columns.views())

    def start(self, attempt: Attempt) -> None:
        """Allocate the capacity. Raises SimulationError when a node or a device has too little."""
        job, shape = attempt.record.job, attempt.record.job.shape
        self._add(self.free, attempt, -1)
        for placement in attempt.placements:
            if len(set(placement.gpu_indices)) != shape.gpu_device_count or self._is_overcommitted(
                placement.node
            ):
                raise SimulationError(f"job {job.id} does not fit on {self.nodes.name[placement.node]}")
        self.attempts[job.id] = attempt
        for allocation_id, placement in enumerate(attempt.placements, start=attempt.id):
            self._columns.add(_row(attempt, allocation_id, placement))
        self._count_evictable(attempt, 1)

    def stop(self, attempt: Attempt) -> None:
        """Mark the allocations of an evicted attempt as releasing."""
        for allocation_id in _allocation_ids(attempt):
            self._columns.set(allocation_id, "releasing", True)
        self.releasing += 1
        self._count_evictable(attempt, -1)

    def release(self, attempt: Attempt) -> None:
        """Free the capacity."""
        self._add(self.free, attempt, 1)
        for allocation_id in _allocation_ids(attempt):
            self._columns.remove(allocation_id)
        del self.attempts[attempt.record.job.id]
        if attempt.stopped_at is None:
            self._count_evictable(attempt, -1)
        else:
            self.releasing -= 1

    def may_admit(self, classes: Iterable[EquivalenceClass]) -> bool:
        """False only if no class fits on any node, even after the eviction of all lower priorities.

        Reservations are ignored. With very many classes or priorities the result is True.
        """
        by_priority: dict[int, list[EquivalenceClass]] = {}
        for count, job_class in enumerate(classes):
            if count == _MOST_CLASSES:
                return True
            by_priority.setdefault(job_class.priority, []).append(job_class)
        if len(self._evictable) > _MOST_PRIORITIES:
            return True
        return any(self._admits(priority, members) for priority, members in by_priority.items())

    def may_admit_below(self, priority: float, classes: Iterable[EquivalenceClass]) -> bool:
        """False only if no class fits on any node, even after the eviction of everything below `priority`."""
        first = list(islice(classes, _MOST_CLASSES + 1))
        return len(first) > _MOST_CLASSES or self._admits(priority, first)

    def _admits(self, priority: float, classes: list[EquivalenceClass]) -> bool:
        cpu, ram, gpu = self.free.cpu_milli, self.free.ram_mib, self.free.gpu_milli
        for victim_priority, held in self._evictable.items():
            if victim_priority < priority:
                cpu, ram, gpu = cpu + held.cpu_milli, ram + held.ram_mib, gpu + held.gpu_milli
        whole_gpus, largest_fraction = (gpu == WHOLE_GPU).sum(axis=1), gpu.max(axis=1)
        for shape, _, _, _, replicas in classes:
            if replicas > 1:
                request = self._eligibility.request(0, shape)
                if replicas_per_node(request, request.eligible, cpu, ram, gpu).sum() >= replicas:
                    return True
                continue
            fits = (cpu >= shape.cpu_milli) & (ram >= shape.ram_mib) & self._eligibility.schedulable(shape)
            if shape.gpu_milli >= WHOLE_GPU:
                fits &= whole_gpus >= shape.gpu_device_count
            elif shape.gpu_milli:
                fits &= largest_fraction >= shape.gpu_milli
            if fits.any():
                return True
        return False

    def _count_evictable(self, attempt: Attempt, sign: int) -> None:
        job = attempt.record.job
        if not job.preemptible:
            return
        held = self._evictable.get(job.priority)
        if held is None:
            free = self.free
            held = self._evictable[job.priority] = FreeCapacity(
                np.zeros_like(free.cpu_milli), np.zeros_like(free.ram_mib), np.zeros_like(free.gpu_milli)
            )
        self._add(held, attempt, sign)

    def _add(self, amounts: FreeCapacity, attempt: Attempt, sign: int) -> None:
        shape = attempt.record.job.shape
        for placement in attempt.placements:
            node = placement.node
            amounts.cpu_milli[node] += sign * shape.cpu_milli
            amounts.ram_mib[node] += sign * shape.ram_mib
            for device in placement.gpu_indices:
                amounts.gpu_milli[node, device] += sign * shape.gpu_milli_per_device

    def _is_overcommitted(self, node: int) -> bool:
        free = self.free
        return bool(free.cpu_milli[node] < 0 or free.ram_mib[node] < 0 or (free.gpu_milli[node] < 0).any())


def _allocation_ids(attempt: Attempt) -> range:
    return range(attempt.id, attempt.id + len(attempt.placements))


def _row(attempt: Attempt, allocation_id: int, placement: ReplicaPlacement) -> tuple[object, ...]:
    """The allocation of one replica, in the order of the columns."""
    job, shape = attempt.record.job, attempt.record.job.shape
    return (
        allocation_id,
        job.id,
        placement.node,
        shape.cpu_milli,
        shape.ram_mib,
        shape.gpu_milli_per_device if placement.gpu_indices else 0,
        sum(1 << device for device in placement.gpu_indices),
        job.priority,
        job.preemptible,
        False,
        attempt.started_at,
        attempt.started_at,
        attempt.protected_until,
        attempt.record.organization,
        math.inf,
    )
