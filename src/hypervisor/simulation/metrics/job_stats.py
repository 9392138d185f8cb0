"""Statistics of a group of jobs: of one priority, of one organization, or of all jobs."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hypervisor.simulation.jobs import Job
from hypervisor.simulation.metrics.quantiles import DurationQuantiles

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class JobStats:
    """Job counts, work in GPU-seconds and CPU-seconds, waits until the first start, and turnaround times.

    `done` is the work of ended jobs, `lost` the work of evicted attempts.
    """

    arrived: int = 0
    rejected: int = 0
    started: int = 0
    ended: int = 0
    evictions: int = 0
    done_gpu_seconds: float = 0.0
    done_cpu_seconds: float = 0.0
    lost_gpu_seconds: float = 0.0
    lost_cpu_seconds: float = 0.0
    rejected_gpu_seconds: float = 0.0
    waits: DurationQuantiles = field(default_factory=DurationQuantiles)
    turnarounds: DurationQuantiles = field(default_factory=DurationQuantiles)

    @property
    def used_gpu_seconds(self) -> float:
        """GPU-seconds of ended and evicted attempts."""
        return self.done_gpu_seconds + self.lost_gpu_seconds

    def add_eviction(self, job: Job, seconds: float) -> None:
        """Count the eviction of an attempt that ran for `seconds`."""
        self.evictions += 1
        self.lost_gpu_seconds += job.gpus * seconds
        self.lost_cpu_seconds += job.cores * seconds

    def add_end(self, job: Job, now: float) -> None:
        """Count the end of a job."""
        self.ended += 1
        self.done_gpu_seconds += job.gpus * job.duration
        self.done_cpu_seconds += job.cores * job.duration
        self.turnarounds.add(now - job.arrival)


class StatsByGroup(Generic[K]):
    """Statistics by key. After `limit` keys all further keys share the key `other`."""

    def __init__(self, other: K, limit: int = 250) -> None:
        self._other = other
        self._limit = limit
        self._stats: dict[K, JobStats] = {}

    def stats_for(self, key: K) -> JobStats:
        """The statistics of a key, created at its first use."""
        stats = self._stats.get(key)
        if stats is not None:
            return stats
        if len(self._stats) >= self._limit:
            key = self._other
        return self._stats.setdefault(key, JobStats())

    def items(self) -> list[tuple[K, JobStats]]:
        """Keys and statistics in the order of their first use."""
        return list(self._stats.items())
