"""The queue of a simulation: the pending table of the snapshot, and counts by equivalence class."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from hypervisor.scheduling.snapshots.snapshot import PendingTable, Shape
from hypervisor.simulation.columns import Columns
from hypervisor.simulation.jobs import Job, JobRecord


class EquivalenceClass(NamedTuple):
    """The fields that decide on admission. A pass treats all jobs of a class alike."""

    shape: Shape
    priority: int
    preemptible: bool
    protected: bool
    replicas: int


def equivalence_class(job: Job) -> EquivalenceClass:
    """The equivalence class of a job."""
    return EquivalenceClass(job.shape, job.priority, job.preemptible, job.min_runtime > 0, job.replicas)


class PendingQueue:
    """The queued jobs. A preempted job keeps its arrival time, so it returns to its old position."""

    def __init__(self) -> None:
        self.class_counts: Counter[EquivalenceClass] = Counter()
        self.gpu_milli = 0
        self._records: dict[int, JobRecord] = {}
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
        self._index_of: dict[Shape, int] = {}
        self._jobs_by_shape: list[int] = []

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: JobRecord) -> None:
        """Queue a job."""
        job = record.job
        index = self._index_of.get(job.shape)
        if index is None:
            index = self._index_of[job.shape] = len(self._shapes)
            self._shapes.append(job.shape)
            self._jobs_by_shape.append(0)
        self._jobs_by_shape[index] += 1
        row = (job.id, job.priority, job.arrival, index, job.preemptible, job.min_runtime > 0)
        self._columns.add((*row, job.replicas, job.spread, record.organization, math.inf, job.arrival))
        self._records[job.id] = record
        self.class_counts[equivalence_class(job)] += 1
        self.gpu_milli += job.gpu_milli

    def get(self, job_id: int) -> JobRecord:
        """A queued job by id."""
        return self._records[job_id]

    def remove(self, job_id: int) -> JobRecord:
        """Remove a job from the queue and return it."""
        record = self._records.pop(job_id)
        job = record.job
        self._columns.remove(job_id)
        self._forget_job_of_shape(self._index_of[job.shape])
        job_class = equivalence_class(job)
        self.class_counts[job_class] -= 1
        if not self.class_counts[job_class]:
            del self.class_counts[job_class]
        self.gpu_milli -= job.gpu_milli
        return record

    def table(self) -> PendingTable:
        """The pending table of the snapshot, valid until the next change."""
        return PendingTable(**self._columns.views())

    def shapes(self) -> tuple[Shape, ...]:
        """The shapes that the table refers to, each with at least one job."""
        return tuple(self._shapes)

    def _forget_job_of_shape(self, index: int) -> None:
        """Count one job less of a shape. The last shape takes the index of a shape without jobs."""
        self._jobs_by_shape[index] -= 1
        if self._jobs_by_shape[index]:
            return
        last = len(self._shapes) - 1
        del self._index_of[self._shapes[index]]
        if index != last:
            numbers = self._columns.view("shape")
            numbers[numbers == last] = index
            self._shapes[index], self._jobs_by_shape[index] = self._shapes[last], self._jobs_by_shape[last]
            self._index_of[self._shapes[index]] = index
        del self._shapes[last], self._jobs_by_shape[last]
