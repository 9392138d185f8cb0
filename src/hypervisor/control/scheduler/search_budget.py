"""The optimizer's step budget for a pass, derived from its time budget.

`plan()` has no clock: the search is limited in steps, so that a replay makes the same decision. The duration
of a step depends on the cluster and the machine. It is measured in each pass, and the time budget is
converted into steps before the next pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypervisor.kernel.clock import Clock
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.solvers import solver_stages

DEFAULT_STEP_SECONDS = 1 / 50_000
"""Assumed before the first measurement: several times the duration on most machines."""
MIN_STEPS = 1_000
"""The minimum number of steps: it takes milliseconds and is enough for a measurement."""
_WEIGHT = 0.5
"""Weight of the latest measurement if it was faster; a slower one replaces the average."""


class SearchBudget:
    """The measured duration of a step, for each cluster and stage of the search."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """`seconds` is the time budget per pass; 0: unlimited."""
        self._clock = clock
        self._seconds = seconds
        self._step_seconds: dict[tuple[int, str], float] = {}

    def limit_steps(self, cluster_id: int, policy: Policy) -> Policy:
        """The policy with its steps reduced to the number that should fit the time budget."""
        if not policy.optimizer_steps or not self._seconds:
            return policy
        paces = [
            self._step_seconds.get((cluster_id, stage), DEFAULT_STEP_SECONDS)
            for stage in solver_stages(policy.solver)
        ]
        most = round(self._seconds / sum(paces))
        return replace(policy, optimizer_steps=min(policy.optimizer_steps, max(most, MIN_STEPS)))

    def timer(self, cluster_id: int) -> SearchTimer:
        """The observer for the search of one pass."""
        return SearchTimer(self, self._clock, cluster_id)

    def record(self, cluster_id: int, stage: str, steps: int, seconds: float) -> None:
        """Record a measurement; one with fewer than `MIN_STEPS` is ignored."""
        if steps < MIN_STEPS:
            return
        key = cluster_id, stage
        pace, before = seconds / steps, self._step_seconds.get(key, DEFAULT_STEP_SECONDS)
        self._step_seconds[key] = pace if pace > before else _WEIGHT * pace + (1.0 - _WEIGHT) * before


@dataclass(slots=True)
class SearchTimer:
    """Measures one search. Implements `hypervisor.scheduling.repacking.budget.SearchObserver`."""

    budget: SearchBudget
    clock: Clock
    cluster_id: int
    started_at: float = 0.0

    def stage_started(self) -> None:
        self.started_at = self.clock.monotonic()

    def stage_ended(self, stage: str, steps: int) -> None:
        self.budget.record(self.cluster_id, stage, steps, self.clock.monotonic() - self.started_at)
