"""How many steps the search of a pass gets, so that it keeps within its time.

`plan()` has no clock, and its search is limited in steps so that a replay decides the same. What a step takes
depends on the cluster and the machine: it is measured in the passes that searched, and the time is turned
into steps before the pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypervisor.kernel.clock import Clock
from hypervisor.scheduling.policy import Policy, SolverName
from hypervisor.scheduling.repacking.solvers import solver_stages

DEFAULT_STEP_SECONDS = 1 / 50_000
"""Seconds a step where nothing was measured yet: several times what they take on most machines."""
MIN_STEPS = 1_000
"""Granted in any case: milliseconds, and enough to measure by."""
_WEIGHT = 0.5
"""Of the latest measurement, where it was faster; slower ones count at once."""


class SearchBudget:
    """What steps take, for each cluster and stage of a search."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """`seconds` a pass may search; 0: no limit in time."""
        self._clock = clock
        self._seconds = seconds
        self._step_seconds: dict[tuple[int, SolverName], float] = {}

    def limit_steps(self, cluster_id: int, policy: Policy) -> Policy:
        """The policy with as many of its steps as should be done in time."""
        if not policy.optimizer_steps or not self._seconds:
            return policy
        paces = [
            self._step_seconds.get((cluster_id, stage), DEFAULT_STEP_SECONDS)
            for stage in solver_stages(policy.solver)
        ]
        most = round(self._seconds / sum(paces))
        return replace(policy, optimizer_steps=min(policy.optimizer_steps, max(most, MIN_STEPS)))

    def timer(self, cluster_id: int) -> SearchTimer:
        """What is to be told of the search of one pass."""
        return SearchTimer(self, self._clock, cluster_id)

    def record(self, cluster_id: int, stage: SolverName, steps: int, seconds: float) -> None:
        """So many steps took so long; few steps say little."""
        if steps < MIN_STEPS:
            return
        key = cluster_id, stage
        pace, before = seconds / steps, self._step_seconds.get(key, DEFAULT_STEP_SECONDS)
        self._step_seconds[key] = pace if pace > before else _WEIGHT * pace + (1.0 - _WEIGHT) * before


@dataclass(slots=True)
class SearchTimer:
    """Measures one search. Implements `hypervisor.scheduling.repacking.budget.Watch`."""

    budget: SearchBudget
    clock: Clock
    cluster_id: int
    started_at: float = 0.0

    def stage_started(self) -> None:
        self.started_at = self.clock.monotonic()

    def stage_ended(self, stage: SolverName, steps: int) -> None:
        self.budget.record(self.cluster_id, stage, steps, self.clock.monotonic() - self.started_at)
