"""The policy of a cluster: the settings of its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypervisor.scheduling.snapshots.snapshot import Shape

DEFAULT_OPTIMIZER_STEPS = 20_000
"""Of a solver that is chosen without a number of steps: some tenths of a second in each pass."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How one cluster is scheduled.

    `placement` names a placement policy (`scoring/registry.py`). `target_workload` are (shape, weight) pairs
    of typical requests; None derives them from the snapshot. On a shared cluster a wait of `age_horizon`
    seconds offsets `age_weight` of dominant share; a shorter wait offsets proportionally less.

    `optimizer_steps` bounds the search that rearranges placements so that more deployments fit; 0 means no
    search. A step examines one deployment on one node. A deployment that has waited for
    `overtake_limit_seconds` is not overtaken. `solver` is the name of the solver (`repacking/solvers.py`).
    """

    placement: str = "fgd"
    preemption: bool = True
    target_workload: Sequence[tuple[Shape, float]] | None = None
    age_horizon: float = 86_400.0
    age_weight: float = 0.5
    optimizer_steps: int = 0
    overtake_limit_seconds: float = 300.0
    solver: str = "search"
