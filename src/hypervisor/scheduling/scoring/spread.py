"""Spread: the node with the smallest used share of its own capacity, as kube-scheduler's LeastAllocated."""

from __future__ import annotations

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.leftover import LeftoverScorer
from hypervisor.scheduling.scoring.scorer import Scorer
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Snapshot


def make_scorer(
    snapshot: Snapshot, policy: Policy, capacity: WorkingState, eligibility: Eligibility
) -> Scorer:
    """See `PlacementPolicy`."""
    return SpreadScorer(capacity)


class SpreadScorer(LeftoverScorer):
    """The least used first. A fraction goes to the emptiest device."""

    def __init__(self, capacity: WorkingState) -> None:
        nodes = capacity.nodes
        cpu, ram = np.maximum(nodes.cpu_milli, 1), np.maximum(nodes.ram_mib, 1)
        gpu = np.maximum(nodes.gpu_count.astype(np.int64), 1) * WHOLE_GPU
        super().__init__(capacity, (cpu, ram, gpu), -1)
