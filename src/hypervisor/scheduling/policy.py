"""The settable part of a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypervisor.scheduling.snapshots.snapshot import Shape


@dataclass(frozen=True, slots=True)
class Policy:
    """How one cluster is scheduled.

    `typical` are (shape, weight) pairs for the FGD score; None derives them from what the snapshot holds.
    On a shared cluster waiting for `age_horizon` seconds is worth as much as `age_weight` of dominant share,
    waiting for less the according part.

    `optimizer_steps` bounds the search for a packing that places more of what waits (0: no search); a step
    looks at one deployment on one node. What has waited for `patience` seconds is not overtaken by it.
    `solver` is how it is searched: "exact" lets a solver go on where the search ends (the extra `optimal`).
    """

    placement: str = "fgd"
    preemption: bool = True
    target_workload: Sequence[tuple[Shape, float]] | None = None
    age_horizon: float = 86_400.0
    age_weight: float = 0.5
    optimizer_steps: int = 0
    overtake_limit_seconds: float = 300.0
    solver: str = "search"
