"""A placement policy that tests register: the node with the lowest id. It has no file in the package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_on_node
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.scorer import INFEASIBLE, ScoreColumn, Scorer
from hypervisor.scheduling.snapshots.requests import Eligibility, Request
from hypervisor.scheduling.snapshots.snapshot import Int32, Int64, Snapshot


def make_scorer(
    snapshot: Snapshot, policy: Policy, capacity: WorkingState, eligibility: Eligibility
) -> Scorer:
    """See `PlacementPolicy`."""
    return FirstFitScorer(capacity)


class FirstFitScorer:
    """The score of a node is its row."""

    def __init__(self, capacity: WorkingState) -> None:
        self._capacity = capacity

    def score(self, request: Request, nodes: Int64) -> Int64:
        return nodes.astype(np.int64)

    def column(self, requests: Sequence[Request]) -> ScoreColumn:
        return _FirstFitColumn(self._capacity, requests)

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        return sorted(devices)


class _FirstFitColumn:
    def __init__(self, capacity: WorkingState, requests: Sequence[Request]) -> None:
        self._capacity = capacity
        self._requests = requests

    def at(self, node: int) -> Int32:
        fits = [fits_on_node(self._capacity, request, node) for request in self._requests]
        return np.where(fits, node, INFEASIBLE).astype(np.int32)
