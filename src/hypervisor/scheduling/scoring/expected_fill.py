"""Expected fill: a request goes where it costs least of the GPU that others would still fill.

The value V of a node is how much GPU a random stream of typical requests would still fill there until none
fits any more. A placement changes V on one node. What it takes away beyond the GPU that it fills itself,
V before - V after - request, is its loss, and the least loss wins. FGD (see `scoring/fgd.py`) asks what one
next request could use; this asks what all the next ones would, so it sees that a remainder will be filled by
two small ones, or that CPU which is left over will run out before the GPU does. The idea is that of value
functions in stochastic knapsack problems (Kleywegt and Papastavrou, 1998), taken for each node by itself.

V is put together from tables (`scoring/expected_fill_tables.py`): each device by itself, and the free devices
together, tell how much GPU the requests of a horizon would fill if CPU and RAM did not matter; a surface over
(CPU, that GPU) tells how much of it the CPU lets be filled, another one the same of RAM, and the less of them
is V.
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
    """The least loss of expected fill first; among equals the node with the least idle GPU.

    The tables are looked up when the first node is scored: a pass in which nothing fits needs none.
    """

    def __init__(
        self,
        state: WorkingState,
        typical: Callable[[], Sequence[tuple[Shape, float]]],
        eligibility: Eligibility,
    ) -> None:
        self._state = state
        self._typical = typical
        self._eligibility = eligibility
        self._seen = 0

    @cached_property
    def _value(self) -> ExpectedFillValue:
        return ExpectedFillValue(self._typical(), self._eligibility, self._state)

    @cached_property
    def _known(self) -> tuple[Int64, Int64, Int64]:
        """Per node what its devices would let be filled, its value, and its idle GPU; see `_catch_up`."""
        self._seen = len(self._state.dirty_log)
        return self._now(np.arange(len(self._state.nodes)))

    def score(self, request: Request, nodes: Int64) -> Int64:
        """The loss in parts of a milli-GPU, and among equals the idle GPU of the node; see `Scorer`."""
        value, state, kind = self._value, self._state, self._value.kind[nodes]
        fillable, now, idle = (column[nodes] for column in self._catch_up())
        if request.whole_devices:
            fillable += value.full_change(kind, state.whole_gpus[nodes], request.device_count)
        elif request.device_count:
            change = value.device_change(
                kind, state.idle_gpu[nodes], state.whole_gpus[nodes], request.milli_per_device
            )
            fillable += change.max(axis=1)
        cpu, ram = state.idle_cpu[nodes] - request.cpu, state.idle_ram[nodes] - request.ram
        fall = now - value.at(kind, cpu, ram, fillable)
        return value.encoded(fall, request.shape.gpu_milli, idle)

    def column(self, requests: Sequence[Request]) -> ScoreColumn:
        """See `Scorer`."""
        return ExpectedFillColumn(self._state, self._value, requests)

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The devices of the node by what could be filled afterwards, the most first."""
        state, value = self._state, self._value
        kind, full = int(value.kind[node]), state.whole_gpus[node]
        changes = value.device_change(kind, state.idle_gpu[node], full, request.milli_per_device).tolist()
        return sorted(devices, key=lambda index: (-changes[index], index))

    def _catch_up(self) -> tuple[Int64, Int64, Int64]:
        """What is known of every node, where it changed worked out anew."""
        known, touched = self._known, self._state.dirty_log
        if self._seen < len(touched):
            nodes = np.array(sorted(set(touched[self._seen :])))
            self._seen = len(touched)
            for column, values in zip(known, self._now(nodes), strict=True):
                column[nodes] = values
        return known

    def _now(self, nodes: Int64) -> tuple[Int64, Int64, Int64]:
        state, value, kind = self._state, self._value, self._value.kind[nodes]
        free = state.idle_gpu[nodes]
        fillable = value.fillable(kind, free, state.whole_gpus[nodes])
        values = value.at(kind, state.idle_cpu[nodes], state.idle_ram[nodes], fillable)
        return fillable, values, free.sum(axis=1)
