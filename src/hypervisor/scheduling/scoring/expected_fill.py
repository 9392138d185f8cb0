"""Expected fill: a request goes where it reduces least the GPU that others would still fill.

The value V of a node is how much GPU a random stream of typical requests would still fill there, until none
fits. A placement changes V on one node. Its score is the loss of V beyond the GPU that it fills itself: V
before - V after - request. The lowest score wins. FGD (see `scoring/fgd.py`) measures what one next request
could use. This score measures what all next requests would use. So it accounts for two small requests that
will fill a remainder, or for CPU that will run out before GPU. The idea is that of value functions in
stochastic knapsack problems (Kleywegt and Papastavrou, 1998), for each node alone.

V comes from tables (`scoring/expected_fill_tables.py`). A table for each device alone, and one for the idle
devices together, give how much GPU the requests of a horizon would fill if CPU and RAM were unlimited. A
surface over (CPU, that GPU) gives how much of it the CPU allows; another surface does so for RAM. The smaller
of the two is V.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.expected_fill_column import ExpectedFillColumn
from hypervisor.scheduling.scoring.expected_fill_value import ExpectedFillValue
from hypervisor.scheduling.scoring.scorer import ScoreColumn, Scorer
from hypervisor.scheduling.scoring.target_workload import target_workload
from hypervisor.scheduling.snapshots.requests import Eligibility, Request
from hypervisor.scheduling.snapshots.snapshot import Int64, Shape, Snapshot


def make_scorer(
    snapshot: Snapshot, policy: Policy, capacity: WorkingState, eligibility: Eligibility
) -> Scorer:
    """See `PlacementPolicy`."""
    return ExpectedFillScorer(capacity, partial(target_workload, snapshot, policy), eligibility)


class ExpectedFillScorer:
    """The least loss of expected fill first, then the node with the least idle GPU.

    The tables are built when the first node is scored. A pass in which nothing fits needs none.
    """

    def __init__(
        self,
        capacity: WorkingState,
        typical: Callable[[], Sequence[tuple[Shape, float]]],
        eligibility: Eligibility,
    ) -> None:
        self._capacity = capacity
        self._typical = typical
        self._eligibility = eligibility
        self._log_position = 0

    @cached_property
    def _value(self) -> ExpectedFillValue:
        return ExpectedFillValue(self._typical(), self._eligibility, self._capacity)

    @cached_property
    def _columns(self) -> tuple[Int64, Int64, Int64]:
        """Per node the fillable GPU of its devices, its value, and its idle GPU; see `_catch_up`."""
        self._log_position = len(self._capacity.dirty_log)
        return self._now(np.arange(len(self._capacity.nodes)))

    def score(self, request: Request, nodes: Int64) -> Int64:
        """The loss in parts of a milli-GPU, then the idle GPU of the node; see `Scorer`."""
        value, capacity, kind = self._value, self._capacity, self._value.kind[nodes]
        fillable, now, idle = (column[nodes] for column in self._catch_up())
        if request.whole_devices:
            fillable += value.full_change(kind, capacity.whole_gpus[nodes], request.device_count)
        elif request.device_count:
            change = value.device_change(
                kind, capacity.idle_gpu[nodes], capacity.whole_gpus[nodes], request.milli_per_device
            )
            fillable += change.max(axis=1)
        cpu, ram = capacity.idle_cpu[nodes] - request.cpu, capacity.idle_ram[nodes] - request.ram
        fall = now - value.at(kind, cpu, ram, fillable)
        return value.encoded(fall, request.shape.gpu_milli, idle)

    def column(self, requests: Sequence[Request]) -> ScoreColumn:
        """See `Scorer`."""
        return ExpectedFillColumn(self._capacity, self._value, requests)

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The devices by the fillable GPU of the node afterwards, the most first."""
        capacity, value = self._capacity, self._value
        kind, full = int(value.kind[node]), capacity.whole_gpus[node]
        changes = value.device_change(kind, capacity.idle_gpu[node], full, request.milli_per_device).tolist()
        return sorted(devices, key=lambda index: (-changes[index], index))

    def _catch_up(self) -> tuple[Int64, Int64, Int64]:
        """The values of all nodes, computed again where nodes changed."""
        columns, dirty_log = self._columns, self._capacity.dirty_log
        if self._log_position < len(dirty_log):
            nodes = np.array(sorted(set(dirty_log[self._log_position :])))
            self._log_position = len(dirty_log)
            for column, values in zip(columns, self._now(nodes), strict=True):
                column[nodes] = values
        return columns

    def _now(self, nodes: Int64) -> tuple[Int64, Int64, Int64]:
        capacity, value, kind = self._capacity, self._value, self._value.kind[nodes]
        free = capacity.idle_gpu[nodes]
        fillable = value.fillable(kind, free, capacity.whole_gpus[nodes])
        values = value.at(kind, capacity.idle_cpu[nodes], capacity.idle_ram[nodes], fillable)
        return fillable, values, free.sum(axis=1)
