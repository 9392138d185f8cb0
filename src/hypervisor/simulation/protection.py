"""Protection from eviction: a minimum runtime, and a cooldown after repeated preemptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from hypervisor.simulation.jobs import Job


@dataclass(frozen=True, slots=True)
class Protection:
    """The settings of a cluster, in seconds.

    Every run is protected for `min_runtime`. A job with `budget` preemptions within `window` is protected for
    `cooldown` after the last one; a budget of 0 switches this off.
    """

    min_runtime: float = 0.0
    budget: int = 0
    window: float = 3600.0
    cooldown: float = 1800.0

    def protected_until(self, job: Job, started_at: float, evicted_at: Sequence[float]) -> float:
        """The end of the protection of a run, -inf for none.

        `evicted_at` has the past evictions of the job.
        """
        min_runtime = max(job.min_runtime, self.min_runtime)
        until = started_at + min_runtime if min_runtime else -inf
        latest = evicted_at[-self.budget :] if self.budget else ()
        if latest and len(latest) == self.budget and latest[-1] - latest[0] <= self.window:
            until = max(until, latest[-1] + self.cooldown)
        return until
