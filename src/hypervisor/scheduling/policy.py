"""The settable part of a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hypervisor.scheduling.snapshot import Shape

PlacementScore = Literal["fgd", "fill", "bestfit", "spread"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How one cluster is scheduled.

    `typical` are (shape, weight) pairs for the FGD score; None derives them from what the snapshot holds.
    On a shared cluster waiting for `age_horizon` seconds is worth as much as `age_weight` of dominant share,
    waiting for less the according part.
    """

    placement: PlacementScore = "fgd"
    preemption: bool = True
    typical: Sequence[tuple[Shape, float]] | None = None
    age_horizon: float = 86_400.0
    age_weight: float = 0.5
