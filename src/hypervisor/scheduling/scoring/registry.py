"""The scorer that a policy names."""

from __future__ import annotations

from functools import partial

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.bestfit_spread import BestFitScorer, SpreadScorer
from hypervisor.scheduling.scoring.expected_fill import ExpectedFillScorer
from hypervisor.scheduling.scoring.fgd import FgdScorer
from hypervisor.scheduling.scoring.scorer import Scorer
from hypervisor.scheduling.scoring.target_workload import target_workload
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Snapshot


def scorer_for(snapshot: Snapshot, policy: Policy, state: WorkingState, eligibility: Eligibility) -> Scorer:
    """A new score is one file beside this one, one literal in `PlacementScore`, one line here."""
    if policy.placement == "bestfit":
        return BestFitScorer(state)
    if policy.placement == "spread":
        return SpreadScorer(state)
    if policy.placement == "fill":
        return ExpectedFillScorer(state, partial(target_workload, snapshot, policy), eligibility)
    return FgdScorer(state, partial(target_workload, snapshot, policy), eligibility)
