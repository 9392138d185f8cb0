"""How many steps the search of a pass gets, so that it keeps within its time.

`plan()` has no clock, and its search is limited in steps so that a replay decides the same. What a step takes
depends on the cluster and the machine: it is measured in the passes that searched, and the time is turned
into steps before the pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypervisor.kernel.clock import Clock
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.solvers import solver_stages

FIRST_PACE = 1 / 50_000
"""Seconds a step where nothing was measured yet: several times what they take on most machines."""
FEWEST_STEPS = 1_000
"""Granted in any case: milliseconds, and enough to measure by."""
_WEIGHT = 0.5
"""Of the latest measurement, where it was faster; slower ones count at once."""


class SearchBudget:
    """What steps take, for each cluster and stage of a search."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """`seconds` a pass may search; 0: no limit in time."""
        self._clock = clock
        self._seconds = seconds
        self._pace: dict[tuple[int, str], float] = {}

    def granted(self, cluster_id: int, policy: Policy) -> Policy:
        """The policy with as many of its steps as should be done in time."""
        if not policy.optimizer_steps or not self._seconds:
            return policy
        paces = [self._pace.get((cluster_id, stage), FIRST_PACE) for stage in solver_stages(policy.solver)]
        most = round(self._seconds / sum(paces))
        return replace(policy, optimizer_steps=min(policy.optimizer_steps, max(most, FEWEST_STEPS)))

    def stopwatch(self, cluster_id: int) -> Stopwatch:
        """What is to be told of the search of one pass."""
        return Stopwatch(self, self._clock, cluster_id)

    def learn(self, cluster_id: int, stage: str, steps: int, seconds: float) -> None:
        """So many steps took so long; few steps say little."""
        if steps < FEWEST_STEPS:
            return
        key = cluster_id, stage
        pace, before = seconds / steps, self._pace.get(key, FIRST_PACE)
        self._pace[key] = pace if pace > before else _WEIGHT * pace + (1.0 - _WEIGHT) * before


@dataclass(slots=True)
class Stopwatch:
    """Measures one search. Implements `hypervisor.scheduling.repacking.budget.SearchObserver`."""

    pacing: SearchBudget
    clock: Clock
    cluster_id: int
    began: float = 0.0

    def stage_started(self) -> None:
        self.began = self.clock.monotonic()

    def stage_ended(self, stage: str, steps: int) -> None:
        self.pacing.learn(self.cluster_id, stage, steps, self.clock.monotonic() - self.began)
