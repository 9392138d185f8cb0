"""The registry of placement policies. A new policy is one file and one line in this module.

The command line and request schemas need the names without the rest of the scheduler. So a policy's module is
imported when its first scorer is created.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from hypervisor.scheduling.capacity.working_state import WorkingState
    from hypervisor.scheduling.policy import Policy
    from hypervisor.scheduling.scoring.scorer import Scorer
    from hypervisor.scheduling.snapshots.requests import Eligibility
    from hypervisor.scheduling.snapshots.snapshot import Snapshot

PLACEMENT_POLICIES: dict[str, str] = {
    "fgd": "hypervisor.scheduling.scoring.fgd",
    "fill": "hypervisor.scheduling.scoring.expected_fill",
    "bestfit": "hypervisor.scheduling.scoring.bestfit",
    "spread": "hypervisor.scheduling.scoring.spread",
}
"""The module of each policy, by its name: at most 32 characters. The first is the default."""


class PlacementPolicy(Protocol):
    """The interface of a policy's module."""

    def make_scorer(
        self, snapshot: Snapshot, policy: Policy, capacity: WorkingState, eligibility: Eligibility
    ) -> Scorer:
        """The scorer for one pass."""
        ...


def policy_names() -> tuple[str, ...]:
    """The names of all policies, the default first."""
    return tuple(PLACEMENT_POLICIES)


def scorer_for(
    snapshot: Snapshot, policy: Policy, capacity: WorkingState, eligibility: Eligibility
) -> Scorer:
    """The scorer of the policy named by `policy.placement`. Raises KeyError for an unknown name."""
    module = cast(PlacementPolicy, import_module(PLACEMENT_POLICIES[policy.placement]))
    return module.make_scorer(snapshot, policy, capacity, eligibility)
