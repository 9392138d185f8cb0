"""How long what runs is safe from eviction: minimum runtimes, and rests after many preemptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from hypervisor.simulation.jobs import Job


@dataclass(frozen=True, slots=True)
class Protection:
    """What a cluster grants, in seconds: `min_runtime` to every run; and where `budget` is not 0, to a job
    that was preempted so often within `window` a `rest` since the last time."""

    min_runtime: float = 0.0
    budget: int = 0
    window: float = 3600.0
    cooldown: float = 1800.0

    def protected_until(self, job: Job, started_at: float, evicted_at: Sequence[float]) -> float:
        """Until when a run is safe, -inf for not at all; `evicted_at` are the job's evictions so far."""
        shortest = max(job.min_runtime, self.min_runtime)
        until = started_at + shortest if shortest else -inf
        last = evicted_at[-self.budget :] if self.budget else ()
        if last and len(last) == self.budget and last[-1] - last[0] <= self.window:
            until = max(until, last[-1] + self.cooldown)
        return until
