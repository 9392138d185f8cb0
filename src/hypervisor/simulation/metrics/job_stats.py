"""The same figures for every group of jobs: a priority, an organization, or all of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hypervisor.simulation.jobs import Job
from hypervisor.simulation.metrics.quantiles import DurationQuantiles

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class JobStats:
    """Counts of jobs, work in GPU-seconds and CPU-seconds, and how long jobs waited for their first start.

    `done` is work that was finished, `lost` what evictions threw away.
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
        """Of work that has come to an end, by itself or by an eviction."""
        return self.done_gpu_seconds + self.lost_gpu_seconds

    def add_eviction(self, job: Job, seconds: float) -> None:
        self.evictions += 1
        self.lost_gpu_seconds += job.gpus * seconds
        self.lost_cpu_seconds += job.cores * seconds

    def add_end(self, job: Job, now: float) -> None:
        self.ended += 1
        self.done_gpu_seconds += job.gpus * job.duration
        self.done_cpu_seconds += job.cores * job.duration
        self.turnarounds.add(now - job.arrival)


class StatsByGroup(Generic[K]):
    """A tally per key, as they turn up; beyond `most` of them, the rest share one."""

    def __init__(self, rest: K, most: int = 250) -> None:
        self._rest = rest
        self._most = most
        self._tallies: dict[K, JobStats] = {}

    def stats_for(self, key: K) -> JobStats:
        found = self._tallies.get(key)
        if found is not None:
            return found
        if len(self._tallies) >= self._most:
            key = self._rest
        return self._tallies.setdefault(key, JobStats())

    def items(self) -> list[tuple[K, JobStats]]:
        """In the order of first arrival."""
        return list(self._tallies.items())
