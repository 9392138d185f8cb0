"""Common parts of the scheduler's property tests: number of examples, policies, comparison of plans.

HV_HYPOTHESIS_EXAMPLES sets the number of examples per property, and makes them random.
"""

from __future__ import annotations

import os
import random
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.registry import policy_names

T = TypeVar("T")

_OPTIMIZING = {
    "optimizer_steps": st.sampled_from([0, 2_000]),
    "overtake_limit_seconds": st.sampled_from([0.0, 10_000.0]),
}
POLICIES = st.builds(
    Policy,
    placement=st.sampled_from(policy_names()),
    preemption=st.booleans(),
    **_OPTIMIZING,
)
PREEMPTING = st.builds(Policy, **_OPTIMIZING)


def checked(examples: int = 200) -> settings:
    """Settings for this many examples, the same ones in each run."""
    return settings(
        max_examples=int(os.environ.get("HV_HYPOTHESIS_EXAMPLES", str(examples))),
        deadline=None,
        derandomize="HV_HYPOTHESIS_EXAMPLES" not in os.environ,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def shuffled(items: tuple[T, ...], shuffle: random.Random) -> tuple[T, ...]:
    mixed = list(items)
    shuffle.shuffle(mixed)
    return tuple(mixed)


def comparable(decided: Plan) -> tuple[object, ...]:
    """A plan as comparable values, with its reasons."""
    return (
        decided.placements,
        decided.evictions,
        decided.nominations,
        list(decided.unplaced),
        decided.reprieved,
    )
