"""The observer that records the metrics for the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isfinite

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import NodeTable
from hypervisor.simulation.cluster_load import ClusterLoad, FreeCapacity
from hypervisor.simulation.jobs import Attempt, Job, Rejection, Split
from hypervisor.simulation.metrics.fragmentation import Fragmentation
from hypervisor.simulation.metrics.job_stats import JobStats, StatsByGroup
from hypervisor.simulation.metrics.time_series import TimeSeries
from hypervisor.simulation.node_specs import UNLIMITED

LEVELS = ("gpu_milli", "cpu_milli", "ram_mib", "running", "waiting", "waiting_gpu_milli")
SAMPLED = ("fragmentation", "fragmentation_known")
SUMS = ("evictions", "lost_gpu_seconds")
OTHER_ORGANIZATIONS = "(others)"
OTHER_PRIORITIES = -1
_BINS_OF_ARRIVALS = 240


@dataclass(slots=True)
class RejectedJobs:
    """Rejected jobs with the same reason; `example` is the sentence for the first one."""

    example: str
    jobs: int = 0
    gpu_seconds: float = 0.0


class Recorder:
    """An observer that records metrics.

    `span` is the time of the last arrival. The capacity of a resource is None when it is unlimited.
    """

    def __init__(self, nodes: NodeTable, span: float) -> None:
        self.span = span
        self.totals = JobStats()
        self.by_priority: StatsByGroup[int] = StatsByGroup(OTHER_PRIORITIES)
        self.by_organization: StatsByGroup[str] = StatsByGroup(OTHER_ORGANIZATIONS)
        self.rejected_jobs: dict[str, RejectedJobs] = {}
        self.splits: Counter[Split] = Counter()
        self.capacity = _capacity(nodes)
        self.time_series = TimeSeries((*LEVELS, *SAMPLED, *SUMS), max(1.0, span / _BINS_OF_ARRIVALS))
        self.until_last_arrival = np.zeros(len(LEVELS))
        self.in_total = np.zeros(len(LEVELS))
        self.grace_gpu_seconds = 0.0
        self.highest_waiting = 0
        self._fragmentation = Fragmentation(nodes)
        self._sample = (0.0, 0.0)
        self._next_sample = 0.0

    def time_passed(self, start: float, end: float, load: ClusterLoad, free: FreeCapacity) -> None:
        if end > self._next_sample:
            self._take_sample(free)
            self._next_sample = self.time_series.width * (self.time_series.bin_of(end) + 1)
        levels = np.array((*_levels(load), *self._sample))
        self.time_series.add_levels(start, end, levels)
        levels = levels[: len(LEVELS)]
        self.in_total += levels * (end - start)
        if start < self.span:
            self.until_last_arrival += levels * (min(end, self.span) - start)
        self.highest_waiting = max(self.highest_waiting, load.waiting)

    def arrived(self, job: Job, now: float) -> None:
        self._fragmentation.arrived(job.shape)
        for stats in self._stats_of(job):
            stats.arrived += 1

    def split(self, job: Job, how: Split, now: float) -> None:
        self.splits[how] += 1

    def rejected(self, job: Job, why: Rejection, now: float) -> None:
        gpu_seconds = job.gpus * job.duration if isfinite(job.duration) else 0.0
        for stats in self._stats_of(job):
            stats.rejected += 1
            stats.rejected_gpu_seconds += gpu_seconds
        rejected = self.rejected_jobs.setdefault(why.code, RejectedJobs(why.sentence))
        rejected.jobs += 1
        rejected.gpu_seconds += gpu_seconds

    def started(self, attempt: Attempt, now: float) -> None:
        record = attempt.record
        if record.first_started_at is None:
            for stats in self._stats_of(record.job):
                stats.started += 1
                stats.waits.add(now - record.job.arrival)

    def evicted(self, attempt: Attempt, preemptor_id: int, now: float) -> None:
        job, seconds = attempt.record.job, now - attempt.started_at
        for stats in self._stats_of(job):
            stats.add_eviction(job, seconds)
        self.time_series.add(now, "evictions", 1)
        self.time_series.add(now, "lost_gpu_seconds", job.gpus * seconds)

    def released(self, attempt: Attempt, now: float) -> None:
        if attempt.stopped_at is not None:
            self.grace_gpu_seconds += attempt.record.job.gpus * (now - attempt.stopped_at)

    def ended(self, attempt: Attempt, now: float) -> None:
        job = attempt.record.job
        for stats in self._stats_of(job):
            stats.add_end(job, now)

    def utilization(self, resource: str) -> float | None:
        """The mean allocated share up to the last arrival; None for unlimited or missing capacity."""
        capacity = self.capacity[resource]
        if not capacity or not self.span:
            return None
        return float(self.until_last_arrival[LEVELS.index(resource)]) / (capacity * self.span)

    def _stats_of(self, job: Job) -> tuple[JobStats, JobStats, JobStats]:
        return (
            self.totals,
            self.by_priority.stats_for(job.priority),
            self.by_organization.stats_for(job.organization),
        )

    def _take_sample(self, free: FreeCapacity) -> None:
        """Measure the fragmentation.

        This is slow, so it happens once per bin and holds until the next bin.
        """
        share = self._fragmentation.share(free)
        self._sample = (0.0, 0.0) if share is None else (share, 1.0)


def _levels(load: ClusterLoad) -> tuple[float, ...]:
    """The levels in the order of LEVELS."""
    return (
        load.gpu_milli,
        load.cpu_milli,
        load.ram_mib,
        load.running,
        load.waiting,
        load.waiting_gpu_milli,
    )


def _capacity(nodes: NodeTable) -> dict[str, int | None]:
    """The total per resource; None when a node is unlimited."""
    cpu, ram = int(nodes.cpu_milli.sum()), int(nodes.ram_mib.sum())
    return {
        "gpu_milli": int(nodes.gpu_count.sum()) * WHOLE_GPU,
        "cpu_milli": None if (nodes.cpu_milli >= UNLIMITED).any() else cpu,
        "ram_mib": None if (nodes.ram_mib >= UNLIMITED).any() else ram,
    }
