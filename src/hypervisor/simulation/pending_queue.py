"""The queue of a simulation, as the scheduler's table and grouped into kinds."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from hypervisor.scheduling.snapshots.snapshot import PendingTable, Shape
from hypervisor.simulation.columns import Columns
from hypervisor.simulation.jobs import Job, JobRecord


class EquivalenceClass(NamedTuple):
    """Whoever is of one kind is admitted or kept waiting alike."""

    shape: Shape
    priority: int
    preemptible: bool
    protected: bool
    replicas: int


def equivalence_class(job: Job) -> EquivalenceClass:
    return EquivalenceClass(job.shape, job.priority, job.preemptible, job.min_runtime > 0, job.replicas)


class PendingQueue:
    """What waits. A preempted job comes back with the arrival that it had, so at its old place."""

    def __init__(self) -> None:
        self.class_counts: Counter[EquivalenceClass] = Counter()
        self.gpu_milli = 0
        self._tickets: dict[int, JobRecord] = {}
        self._columns = Columns(
            deployment_id=np.int64,
            priority=np.int32,
            created_at=np.float64,
            shape=np.int32,
            preemptible=np.bool_,
            protected=np.bool_,
            replicas=np.int32,
            spread=np.bool_,
            organization=np.int32,
            max_runtime=np.float64,
            eligible_since=np.float64,
        )
        self._shapes: list[Shape] = []
        self._slot_of: dict[Shape, int] = {}
        self._members: list[int] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, ticket: JobRecord) -> None:
        job = ticket.job
        slot = self._slot_of.get(job.shape)
        if slot is None:
            slot = self._slot_of[job.shape] = len(self._shapes)
            self._shapes.append(job.shape)
            self._members.append(0)
        self._members[slot] += 1
        row = (job.id, job.priority, job.arrival, slot, job.preemptible, job.min_runtime > 0)
        self._columns.add((*row, job.replicas, job.spread, ticket.organization, math.inf, job.arrival))
        self._tickets[job.id] = ticket
        self.class_counts[equivalence_class(job)] += 1
        self.gpu_milli += job.gpu_milli

    def get(self, job_id: int) -> JobRecord:
        return self._tickets[job_id]

    def remove(self, job_id: int) -> JobRecord:
        ticket = self._tickets.pop(job_id)
        job = ticket.job
        self._columns.remove(job_id)
        self._leave(self._slot_of[job.shape])
        kind = equivalence_class(job)
        self.class_counts[kind] -= 1
        if not self.class_counts[kind]:
            del self.class_counts[kind]
        self.gpu_milli -= job.gpu_milli
        return ticket

    def table(self) -> PendingTable:
        """As the scheduler sees it; valid until the next change."""
        return PendingTable(**self._columns.views())

    def shapes(self) -> tuple[Shape, ...]:
        """The shapes that the table refers to, each with at least one member."""
        return tuple(self._shapes)

    def _leave(self, slot: int) -> None:
        """One member less; a shape without members gives its number to the last one."""
        self._members[slot] -= 1
        if self._members[slot]:
            return
        last = len(self._shapes) - 1
        del self._slot_of[self._shapes[slot]]
        if slot != last:
            numbers = self._columns.view("shape")
            numbers[numbers == last] = slot
            self._shapes[slot], self._members[slot] = self._shapes[last], self._members[last]
            self._slot_of[self._shapes[slot]] = slot
        del self._shapes[last], self._members[last]
