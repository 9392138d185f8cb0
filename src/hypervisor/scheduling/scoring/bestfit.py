"""BestFit: the node with the least left, each resource as a share of that of the largest node.

It is the baseline of the FGD paper (Weng et al., USENIX ATC'23).
"""

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
    return BestFitScorer(capacity)


class BestFitScorer(LeftoverScorer):
    """The least left first. A fraction goes to the fullest device where it fits."""

    def __init__(self, capacity: WorkingState) -> None:
        nodes = capacity.nodes
        largest = (
            max(1, int(nodes.cpu_milli.max(initial=1))),
            max(1, int(nodes.ram_mib.max(initial=1))),
            max(1, int(nodes.gpu_count.max(initial=0))) * WHOLE_GPU,
        )
        cpu, ram, gpu = (np.full(len(nodes), amount, np.int64) for amount in largest)
        super().__init__(capacity, (cpu, ram, gpu), 1)
