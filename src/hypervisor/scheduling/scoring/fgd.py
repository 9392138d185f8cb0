"""Fragmentation Gradient Descent (Weng et al., USENIX ATC'23), with table look-ups instead of loops.

F(node) is the idle milli-GPU of the node that a typical request could not use, on average over the target
workload. If the request does not fit, or needs no GPU, that is all of the idle GPU; else it is the idle GPU
of devices where it does not fit. A request goes where F grows least. Placing u milli-GPU takes u from the
idle total on every node alike. So F grows least where the *usable* idle GPU, the total less F, falls least.

Usable idle GPU is a sum over devices for requests of one device, plus a term for requests of several devices
that depends on the number of idle devices. Both depend on the node's CPU and RAM only through the set of
typical requests that these admit. So there is a small table from (node kind, CPU, RAM) to such a set, one
from (set, idle milli-GPU of a device) to its usable amount, and one from (set, idle devices).

As in the published scheduler, the change of F goes through a sigmoid to whole points from 0 to 100. The
rounding matters: differences of a few hundredths of a device are noise, and following them packs worse. Among
nodes with the same points the node with the least idle GPU wins, so that emptier nodes stay empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.fgd_column import BEYOND_IDLE, FgdColumn
from hypervisor.scheduling.scoring.fgd_tables import IMPOSSIBLE, SCALE, STRIDE, FgdTables
from hypervisor.scheduling.scoring.scorer import ScoreColumn, Scorer
from hypervisor.scheduling.scoring.target_workload import target_workload
from hypervisor.scheduling.snapshots.requests import Eligibility, Request
from hypervisor.scheduling.snapshots.snapshot import Int64, Shape, Snapshot

_POINTS = 100
_STEPS = np.arange(1, _POINTS) / _POINTS
# The inverse sigmoid: the fall of F, in scaled milli-GPU, that earns 1, 2, .. 99 points.
_THRESHOLDS = np.round(np.log(_STEPS / (1 - _STEPS)) * WHOLE_GPU * SCALE).astype(np.int64)


def make_scorer(
    snapshot: Snapshot, policy: Policy, capacity: WorkingState, eligibility: Eligibility
) -> Scorer:
    """See `PlacementPolicy`."""
    return FgdScorer(capacity, partial(target_workload, snapshot, policy), eligibility)


class FgdScorer:
    """The least growth of expected fragmentation first. Weights are scaled to integers, so sums are exact.

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

    @cached_property
    def _tables(self) -> FgdTables:
        capacity = self._capacity
        return FgdTables(self._typical(), self._eligibility, len(capacity.nodes), capacity.width)

    def score(self, request: Request, nodes: Int64) -> Int64:
        """The points missing to 100, then the idle GPU of the node; see `Scorer`."""
        fall = request.shape.gpu_milli * SCALE - self._lost_usable(request, nodes)
        missing = _POINTS - _THRESHOLDS.searchsorted(fall, "right")
        scores: Int64 = missing * BEYOND_IDLE + self._capacity.idle_gpu[nodes].sum(axis=1)
        return scores

    def column(self, requests: Sequence[Request]) -> ScoreColumn:
        """See `Scorer`."""
        return FgdColumn(self._capacity, self._tables, requests, _THRESHOLDS)

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The devices by the usable GPU that is left on the node, the most first."""
        capacity, tables = self._capacity, self._tables
        cpu, ram = int(capacity.idle_cpu[node]) - request.cpu, int(capacity.idle_ram[node]) - request.ram
        number = tables.set_at(cpu, ram, node)
        free = capacity.idle_gpu[node].tolist()
        table, several = tables.device, tables.several[number]
        start, full = number * STRIDE, int(capacity.whole_gpus[node])
        change = {
            free_milli: int(table[start + free_milli - request.milli_per_device] - table[start + free_milli])
            for free_milli in set(free)
        }
        if tables.has_several and full:
            change[WHOLE_GPU] += int(several[full - 1] - several[full])
        return sorted(devices, key=lambda index: (-change[free[index]], index))

    def _lost_usable(self, request: Request, nodes: Int64) -> Int64:
        """The loss of usable idle GPU by the placement, in scaled milli-GPU."""
        capacity, tables = self._capacity, self._tables
        sets = tables.set_of(
            capacity.idle_cpu[nodes] - request.cpu, capacity.idle_ram[nodes] - request.ram, nodes
        )
        gpu = capacity.idle_gpu[nodes]
        flat = (sets * STRIDE)[:, None] + gpu
        now = tables.device.take(flat, mode="clip")
        usable = np.add.reduce(now, axis=1)
        full = capacity.whole_gpus[nodes]
        if request.whole_devices:
            usable -= request.device_count * tables.device[sets * STRIDE + WHOLE_GPU]
            full = full - request.device_count
        elif request.device_count:
            usable += self._best_change(request, sets, gpu, flat, now, full)
        if tables.has_several:
            usable += tables.several[sets, np.maximum(full, 0)]
        lost: Int64 = self._usable_now(nodes) - usable
        return lost

    def _best_change(
        self, request: Request, sets: Int64, gpu: Int64, flat: Int64, now: Int64, full: Int64
    ) -> Int64:
        """Per node the change of usable GPU if a fraction goes to the best device."""
        tables = self._tables
        change = tables.device.take(flat - request.milli_per_device, mode="clip") - now
        if tables.has_several:
            opened = tables.several[sets, np.maximum(full - 1, 0)] - tables.several[sets, full]
            change += np.where(gpu == WHOLE_GPU, opened[:, None], 0)
        change[gpu < request.milli_per_device] = IMPOSSIBLE
        best: Int64 = np.maximum.reduce(change, axis=1)
        return best

    def _usable_now(self, nodes: Int64) -> Int64:
        capacity, tables = self._capacity, self._tables
        sets = tables.set_of(capacity.idle_cpu[nodes], capacity.idle_ram[nodes], nodes)
        flat = (sets * STRIDE)[:, None] + capacity.idle_gpu[nodes]
        usable: Int64 = tables.device.take(flat, mode="clip").sum(axis=1)
        usable += tables.several[sets, capacity.whole_gpus[nodes]]
        return usable
