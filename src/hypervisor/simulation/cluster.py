"""The simulated nodes: what runs where, what is free, and what could be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.preemption.gang import replicas_per_node
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, NodeTable
from hypervisor.simulation.cluster_load import FreeCapacity
from hypervisor.simulation.columns import allocation_columns
from hypervisor.simulation.errors import SimulationError
from hypervisor.simulation.jobs import Attempt, ReplicaPlacement
from hypervisor.simulation.pending_queue import EquivalenceClass

_MOST_KINDS = 64
_MOST_LEVELS = 16


class Cluster:
    """Allocations as the scheduler's table, kept up to date with every start and end.

    `attempts` are those that hold capacity, by job: a job has one at a time.
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
        """As the scheduler sees it; valid until the next change."""
        return AllocationTable(**self._columns.views())

    def start(self, attempt: Attempt) -> None:
        """Take the capacity. Raises SimulationError where a node or a device has less than that."""
        job, shape = attempt.record.job, attempt.record.job.shape
        self._take(self.free, attempt, -1)
        for place in attempt.placements:
            if len(set(place.gpu_indices)) != shape.gpu_device_count or self._is_over(place.node):
                raise SimulationError(f"job {job.id} does not fit on {self.nodes.name[place.node]}")
        self.attempts[job.id] = attempt
        for allocation_id, place in enumerate(attempt.placements, start=attempt.id):
            self._columns.add(_row(attempt, allocation_id, place))
        self._count_evictable(attempt, 1)

    def stop(self, attempt: Attempt) -> None:
        """It was evicted: it holds its capacity, but not for long."""
        for allocation_id in _allocation_ids(attempt):
            self._columns.set(allocation_id, "releasing", True)
        self.releasing += 1
        self._count_evictable(attempt, -1)

    def release(self, attempt: Attempt) -> None:
        """Give the capacity back."""
        self._take(self.free, attempt, 1)
        for allocation_id in _allocation_ids(attempt):
            self._columns.remove(allocation_id)
        del self.attempts[attempt.record.job.id]
        if attempt.stopped_at is None:
            self._count_evictable(attempt, -1)
        else:
            self.releasing -= 1

    def may_admit(self, kinds: Iterable[EquivalenceClass]) -> bool:
        """False only if none of these kinds fits anywhere, even if all lower ones there were evicted.

        Reservations are not looked at, and where there are very many kinds or priorities the answer is yes.
        """
        by_priority: dict[int, list[EquivalenceClass]] = {}
        for count, kind in enumerate(kinds):
            if count == _MOST_KINDS:
                return True
            by_priority.setdefault(kind.priority, []).append(kind)
        if len(self._evictable) > _MOST_LEVELS:
            return True
        return any(self._admits(priority, alike) for priority, alike in by_priority.items())

    def may_admit_below(self, priority: float, kinds: Iterable[EquivalenceClass]) -> bool:
        """False only if none of these kinds fits anywhere, even if everything below this priority yielded."""
        several = list(islice(kinds, _MOST_KINDS + 1))
        return len(several) > _MOST_KINDS or self._admits(priority, several)

    def _admits(self, priority: float, kinds: list[EquivalenceClass]) -> bool:
        cpu, ram, gpu = self.free.cpu_milli, self.free.ram_mib, self.free.gpu_milli
        for level, held in self._evictable.items():
            if level < priority:
                cpu, ram, gpu = cpu + held.cpu_milli, ram + held.ram_mib, gpu + held.gpu_milli
        full, widest = (gpu == WHOLE_GPU).sum(axis=1), gpu.max(axis=1)
        for shape, _, _, _, replicas in kinds:
            if replicas > 1:
                request = self._eligibility.request(0, shape)
                if replicas_per_node(request, request.eligible, cpu, ram, gpu).sum() >= replicas:
                    return True
                continue
            fits = (cpu >= shape.cpu_milli) & (ram >= shape.ram_mib) & self._eligibility.schedulable(shape)
            if shape.gpu_milli >= WHOLE_GPU:
                fits &= full >= shape.gpu_device_count
            elif shape.gpu_milli:
                fits &= widest >= shape.gpu_milli
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
        self._take(held, attempt, sign)

    def _take(self, room: FreeCapacity, attempt: Attempt, sign: int) -> None:
        shape = attempt.record.job.shape
        for place in attempt.placements:
            node = place.node
            room.cpu_milli[node] += sign * shape.cpu_milli
            room.ram_mib[node] += sign * shape.ram_mib
            for device in place.gpu_indices:
                room.gpu_milli[node, device] += sign * shape.gpu_milli_per_device

    def _is_over(self, node: int) -> bool:
        free = self.free
        return bool(free.cpu_milli[node] < 0 or free.ram_mib[node] < 0 or (free.gpu_milli[node] < 0).any())


def _allocation_ids(attempt: Attempt) -> range:
    return range(attempt.id, attempt.id + len(attempt.placements))


def _row(attempt: Attempt, allocation_id: int, place: ReplicaPlacement) -> tuple[object, ...]:
    """The allocation of one replica, in the order of the columns."""
    job, shape = attempt.record.job, attempt.record.job.shape
    return (
        allocation_id,
        job.id,
        place.node,
        shape.cpu_milli,
        shape.ram_mib,
        shape.gpu_milli_per_device if place.gpu_indices else 0,
        sum(1 << device for device in place.gpu_indices),
        job.priority,
        job.preemptible,
        False,
        attempt.started_at,
        attempt.started_at,
        attempt.protected_until,
        attempt.record.organization,
        math.inf,
    )
