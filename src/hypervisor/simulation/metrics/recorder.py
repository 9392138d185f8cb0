"""Watches one simulation and keeps what its report needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isfinite

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import NodeTable
from hypervisor.simulation.fleet import UNLIMITED
from hypervisor.simulation.jobs import Job
from hypervisor.simulation.metrics.courses import Courses
from hypervisor.simulation.metrics.fragmentation import Fragmentation
from hypervisor.simulation.metrics.groups import Groups, Tally
from hypervisor.simulation.observer import Attempt, Load, Rejection, Room, Split

LEVELS = ("gpu_milli", "cpu_milli", "ram_mib", "running", "waiting", "waiting_gpu_milli")
SAMPLED = ("fragmentation", "fragmentation_known")
SUMS = ("evictions", "lost_gpu_seconds")
REST_OF_ORGANIZATIONS = "(others)"
REST_OF_PRIORITIES = -1
_BINS_OF_ARRIVALS = 240


@dataclass(slots=True)
class Refused:
    """Jobs of one reason that could never run; `example` is what was said of the first."""

    example: str
    jobs: int = 0
    gpu_seconds: float = 0.0


class Recorder:
    """An observer. `span` is the time of the last arrival; capacity is None where it is unlimited."""

    def __init__(self, nodes: NodeTable, span: float) -> None:
        self.span = span
        self.all = Tally()
        self.by_priority: Groups[int] = Groups(REST_OF_PRIORITIES)
        self.by_organization: Groups[str] = Groups(REST_OF_ORGANIZATIONS)
        self.refused: dict[str, Refused] = {}
        self.splits: Counter[Split] = Counter()
        self.capacity = _capacity(nodes)
        self.courses = Courses((*LEVELS, *SAMPLED, *SUMS), max(1.0, span / _BINS_OF_ARRIVALS))
        self.until_last_arrival = np.zeros(len(LEVELS))
        self.in_total = np.zeros(len(LEVELS))
        self.held_gpu_seconds = 0.0
        self.highest_waiting = 0
        self._fragmentation = Fragmentation(nodes)
        self._sample = (0.0, 0.0)
        self._next_sample = 0.0

    def passed(self, start: float, end: float, load: Load, room: Room) -> None:
        if end > self._next_sample:
            self._take_sample(room)
            self._next_sample = self.courses.width * (self.courses.bin(end) + 1)
        levels = np.array((*_levels(load), *self._sample))
        self.courses.add_levels(start, end, levels)
        levels = levels[: len(LEVELS)]
        self.in_total += levels * (end - start)
        if start < self.span:
            self.until_last_arrival += levels * (min(end, self.span) - start)
        self.highest_waiting = max(self.highest_waiting, load.waiting)

    def arrived(self, job: Job, now: float) -> None:
        self._fragmentation.arrived(job.shape)
        for tally in self._tallies(job):
            tally.arrived += 1

    def split(self, job: Job, how: Split, now: float) -> None:
        self.splits[how] += 1

    def rejected(self, job: Job, why: Rejection, now: float) -> None:
        asked = job.gpus * job.duration if isfinite(job.duration) else 0.0
        for tally in self._tallies(job):
            tally.rejected += 1
            tally.rejected_gpu_seconds += asked
        refused = self.refused.setdefault(why.code, Refused(why.sentence))
        refused.jobs += 1
        refused.gpu_seconds += asked

    def started(self, attempt: Attempt, now: float) -> None:
        ticket = attempt.ticket
        if ticket.started_first is None:
            for tally in self._tallies(ticket.job):
                tally.started += 1
                tally.waits.add(now - ticket.job.arrival)

    def evicted(self, attempt: Attempt, preemptor_id: int, now: float) -> None:
        job, seconds = attempt.ticket.job, now - attempt.started_at
        for tally in self._tallies(job):
            tally.lose(job, seconds)
        self.courses.add(now, "evictions", 1)
        self.courses.add(now, "lost_gpu_seconds", job.gpus * seconds)

    def released(self, attempt: Attempt, now: float) -> None:
        if attempt.stopped_at is not None:
            self.held_gpu_seconds += attempt.ticket.job.gpus * (now - attempt.stopped_at)

    def ended(self, attempt: Attempt, now: float) -> None:
        job = attempt.ticket.job
        for tally in self._tallies(job):
            tally.finish(job, now)

    def utilization(self, resource: str) -> float | None:
        """The mean share in use up to the last arrival; None where nothing can be said."""
        capacity = self.capacity[resource]
        if not capacity or not self.span:
            return None
        return float(self.until_last_arrival[LEVELS.index(resource)]) / (capacity * self.span)

    def _tallies(self, job: Job) -> tuple[Tally, Tally, Tally]:
        return (self.all, self.by_priority.of(job.priority), self.by_organization.of(job.organization))

    def _take_sample(self, room: Room) -> None:
        """Fragmentation is costly, so it is looked at once a bin and taken to last until the next look."""
        share = self._fragmentation.share(room)
        self._sample = (0.0, 0.0) if share is None else (share, 1.0)


def _levels(load: Load) -> tuple[float, ...]:
    """In the order of LEVELS."""
    return (
        load.gpu_milli,
        load.cpu_milli,
        load.ram_mib,
        load.running,
        load.waiting,
        load.waiting_gpu_milli,
    )


def _capacity(nodes: NodeTable) -> dict[str, int | None]:
    """All nodes together; None where one of them is unlimited."""
    cpu, ram = int(nodes.cpu_milli.sum()), int(nodes.ram_mib.sum())
    return {
        "gpu_milli": int(nodes.gpu_count.sum()) * WHOLE_GPU,
        "cpu_milli": None if (nodes.cpu_milli >= UNLIMITED).any() else cpu,
        "ram_mib": None if (nodes.ram_mib >= UNLIMITED).any() else ram,
    }
